package mesh

import (
	"flag"
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	// Most tests wait for agents, whose work takes little time.
	flag.Set("test.parallel", "8")
	flag.Parse() // where the command line says something else, that holds
	os.Exit(m.Run())
}
