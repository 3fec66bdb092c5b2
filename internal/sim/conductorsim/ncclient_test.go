package conductorsim_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"banmesh/internal/need"
	"banmesh/internal/sim/conductorsim"
)

// ncclientScript works as an operator's script would, with nothing of ours in it.
const ncclientScript = `
import sys
from ncclient import manager
from ncclient.operations import RPCError
from ncclient.xml_ import to_ele

host, port, key = sys.argv[1], int(sys.argv[2]), sys.argv[3]

def connect():
    return manager.connect(host=host, port=port, username="admin", key_filename=key, hostkey_verify=False,
                           look_for_keys=False, allow_agent=False, timeout=10)

NC = "urn:ietf:params:xml:ns:netconf:base:1.0"
def config(inside):
    return ('<config xmlns="%s"><t128:config xmlns:t128="http://128technology.com/t128">'
            '<authy:authority xmlns:authy="http://128technology.com/t128/config/authority-config">%s'
            '</authy:authority></t128:config></config>' % (NC, inside))

def tenant(*addresses):
    return config('<authy:tenant><authy:name>black</authy:name><authy:description>by script</authy:description>'
                  '<authy:member><authy:neighborhood>internet</authy:neighborhood>%s</authy:member></authy:tenant>'
                  % ''.join('<authy:address>%s</authy:address>' % a for a in addresses))

one, two = connect(), connect()
assert ":candidate" in one.server_capabilities and ":validate" in one.server_capabilities
one.lock("candidate")
try:
    two.lock("candidate")
    sys.exit("a second lock was granted")
except RPCError as e:
    assert e.tag == "lock-denied", e.tag
    assert ">%s<" % one.session_id in e.info, e.info
one.edit_config(target="candidate", config=tenant("203.0.113.7/32", "198.51.100.0/24"))
try:
    one.edit_config(target="candidate", config=tenant("192.0.2.1"))
    sys.exit("an address without a length was taken")
except RPCError as e:
    assert e.tag == "invalid-value" and "192.0.2.1" in e.message and e.path, e
one.validate("candidate")
one.commit()
one.edit_config(target="candidate", config=tenant("192.0.2.99/32"))
one.discard_changes()
filter = ('subtree', '<config xmlns="http://128technology.com/t128"><authority xmlns="http://128technology.com/t128/config/authority-config">'
          '<tenant><name>black</name></tenant></authority></config>')
for source in "candidate", "running":
    reply = one.get_config(source=source, filter=filter)
    got = [e.text for e in reply.data_ele.iter("{*}address")]
    assert got == ["203.0.113.7/32", "198.51.100.0/24"], got
assert [e.text for e in one.get(filter=filter).data_ele.iter("{*}description")] == ["by script"]
one.dispatch(to_ele('<commit xmlns="%s"><validation-type xmlns="urn:128technology:netconf:validate-type:1.0">local</validation-type></commit>' % NC))
one.unlock("candidate")
with two.locked("candidate"):
    two.edit_config(target="candidate", config=tenant("2001:db8::1/128"), default_operation="merge", test_option="test-then-set")
    two.commit()
one.close_session()
two.close_session()
print("fine")
`

// TestWorksWithNcclient needs Debian's python3-ncclient, which belongs to Debian's own python3.
func TestWorksWithNcclient(t *testing.T) {
	const python = "/usr/bin/python3"
	need.Success(t, python, "-c", "import ncclient")
	dir := t.TempDir()
	s := serve(t, func(c *conductorsim.Config) { c.Dir = dir })
	script := filepath.Join(t.TempDir(), "script.py")
	if err := os.WriteFile(script, []byte(ncclientScript), 0o600); err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), python, script, host, port, filepath.Join(dir, "client_key")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := []string{"203.0.113.7/32", "198.51.100.0/24", "2001:db8::1/128"}
	if got := s.Addresses("black", "internet"); !slices.Equal(got, want) {
		t.Errorf("addresses %q, want %q", got, want)
	}
	if n := s.History().Commits(); n != 3 {
		t.Errorf("%d commits in the history, want 3", n)
	}
}
