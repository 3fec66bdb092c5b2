package enforce

import (
	"bufio"
	"io"
	"os"
	"strings"
)

// caveat is what a kernel cannot promise that rebuilds the tree of a set with intervals while packets are looked up in it:
// the commit "translate rbtree to array for binary search" of January 2026 ended that, and was carried into older series.
const caveat = "this kernel may let a packet from within a banned prefix through in the instant in which prefixes change; single addresses are safe"

// Caveat is the kernel's, and which interfaces are not there.
func (n *nftTables) Caveat() string {
	var all []string
	if c := n.kernel(); c != "" {
		all = append(all, c)
	}
	if names := n.absent.Load(); names != nil {
		all = append(all, "enforce.ingress: there is no interface "+*names)
	}
	return strings.Join(all, "; ")
}

// kernelCaveat looks for the kernel's own mark of that commit, the names of its functions. A kernel that shows none of its
// names tells nothing.
func kernelCaveat() string {
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		return ""
	}
	defer f.Close()
	return caveatOf(f)
}

// caveatOf looks through the kernel's symbols (/proc/kallsyms) for the code of interval sets: nft_array_ is
// the newer one, without the fault that the caveat is about.
func caveatOf(names io.Reader) string {
	intervals := false
	for lines := bufio.NewScanner(names); lines.Scan(); {
		line := lines.Text()
		if strings.Contains(line, " nft_array_") {
			return ""
		}
		intervals = intervals || strings.Contains(line, " nft_rbtree_")
	}
	if !intervals {
		return ""
	}
	return caveat
}
