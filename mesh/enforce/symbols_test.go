//go:build linux

package enforce

import (
	"strings"
	"testing"
)

func TestAKernelIsKnownByItsFunctions(t *testing.T) {
	const (
		other = "0000000000000000 T printk\n0000000000000000 t nft_rhash_lookup\n"
		tree  = "0000000000000000 t nft_rbtree_walk\t[nf_tables]\n"
		array = "0000000000000000 t nft_array_lookup_cmp\t[nf_tables]\n"
	)
	for names, want := range map[string]string{
		"": "", other: "", other + tree: caveat, other + tree + array: "", array + tree: "",
	} {
		if got := caveatOf(strings.NewReader(names)); got != want {
			t.Errorf("%q: %q, want %q", names, got, want)
		}
	}
}
