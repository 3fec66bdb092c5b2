package rest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"banmesh/internal/sim/apart"
	"banmesh/mesh/conductor"
	"banmesh/mesh/conductor/rest"
)

// largeDocument is how much of other people's configuration the test below has the driver compare.
const largeDocument = 8 << 20

// largeAuthority writes a configuration of that size, in which the description of the last router differs by what.
func largeAuthority(w io.Writer, what string) {
	b := bufio.NewWriterSize(w, 1<<16)
	defer b.Flush()
	b.WriteString(`{"name":"Authority","router":[`)
	size := 0
	for i := 0; size < largeDocument; i++ {
		n, _ := fmt.Fprintf(b, `{"name":"r%d","description":"a router","node":[{"name":"node1","device-interface":[{"name":"wan","network-interface":[{"name":"wan","address":[{"ip-address":"198.51.100.%d","prefix-length":24}],"neighborhood":[{"name":"internet"}]}]}]}]},`, i, i%256)
		size += n
	}
	fmt.Fprintf(b, `{"name":"last","description":%q}],"tenant":[{"name":%q,"member":[{"neighborhood":%q,"address":["192.0.2.1/32"]}]}]}`, what, tenant, member)
}

// A candidate with somebody's edits in a configuration of many megabytes costs at most three times its size, attempt after
// attempt. The driver runs in a process of its own, whose peak the kernel tells.
func TestFiguresADirtyLargeCandidateCostsThreeTimesItsSize(t *testing.T) {
	if apart.Measure(t, func() { compareLarge(t) }) {
		return
	}
	for _, chunked := range []bool{false, true} {
		c := &lab{t: t, dir: t.TempDir()}
		documents := map[string][]byte{}
		for _, what := range []string{"a", "b"} {
			var b strings.Builder
			largeAuthority(&b, what)
			documents[what] = []byte(b.String())
		}
		var cfg rest.Config
		fake(t, func(w http.ResponseWriter, req *http.Request) {
			send := func(b []byte) {
				if !chunked {
					w.Header().Set("Content-Length", strconv.Itoa(len(b)))
				}
				w.Write(b)
			}
			switch strings.TrimPrefix(req.URL.Path, "/api/v1") {
			case "/login":
				fmt.Fprint(w, `{"token":"t"}`)
			case "/config/running/authority":
				send(documents["a"])
			case "/config/candidate/authority":
				send(documents["b"])
			default:
				w.WriteHeader(http.StatusNotFound)
			}
		}, func(made *rest.Config) { cfg = *made })
		peak := apart.Peak(t, "BANMESH_TEST_URL="+cfg.URLs[0], "BANMESH_TEST_PIN="+cfg.PinSHA256, "BANMESH_TEST_PASSWORD="+c.secret("password", "x\n"))
		t.Logf("chunked %v: %d kB for documents of %d kB", chunked, peak, largeDocument>>10)
		const process = 4 << 10 // kB of the process itself
		if peak > 3*largeDocument>>10+process {
			t.Errorf("chunked %v: %d kB more than before, for documents of %d kB", chunked, peak, largeDocument>>10)
		}
	}
}

// compareLarge makes a few attempts in the other process.
func compareLarge(t *testing.T) {
	cfg := rest.DefaultConfig()
	cfg.URLs, cfg.PinSHA256, cfg.PasswordFile = []string{os.Getenv("BANMESH_TEST_URL")}, os.Getenv("BANMESH_TEST_PIN"), os.Getenv("BANMESH_TEST_PASSWORD")
	r := open(t, cfg)
	for range 3 {
		_, err := r.Begin(context.Background(), conductor.Permit{})
		if !errors.Is(err, conductor.ErrBusy) || !strings.Contains(err.Error(), "/router[last]/description") {
			t.Fatal(err)
		}
	}
}
