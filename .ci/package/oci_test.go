package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// build makes a layout of a small static program in the place of the agent.
func build(t *testing.T) (dir string) {
	t.Helper()
	bin, dir := t.TempDir(), t.TempDir()
	source := filepath.Join(bin, "main.go")
	if err := os.WriteFile(source, []byte("package main\n\nimport \"os\"\n\nfunc main() {\n\tdir, err := os.Stat(\"/var/lib/banmesh\")\n\tprintln(os.Args[1], os.Getuid(), err == nil && dir.IsDir())\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(bin, "banmesh"), source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(bin, "banmesh-hook"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	l := layout{dir: dir, version: "1.2.0", at: time.Unix(1_700_000_000, 0).UTC()}
	if err := l.write([]string{"amd64=" + bin, "arm64=" + bin}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// What is mounted as documented can be read by the image's user.
func TestTheDocumentedOwnerIsTheImages(t *testing.T) {
	text, err := os.ReadFile("../../examples/README.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("install -o %d -g %[1]d -m 0600 banmesh.yaml keyring.json", user); !strings.Contains(string(text), want) {
		t.Errorf("examples/README.md does not say %q", want)
	}
}

// read returns a blob, which is what its name says.
func read(t *testing.T, dir string, d descriptor) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "blobs", "sha256", strings.TrimPrefix(d.Digest, "sha256:")))
	if err != nil {
		t.Fatal(err)
	}
	if digest(text) != d.Digest || len(text) != d.Size {
		t.Errorf("the blob of %s is not %s of %d bytes", d.MediaType, d.Digest, d.Size)
	}
	return text
}

func decode(t *testing.T, text []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(text, v); err != nil {
		t.Fatal(err)
	}
}

// What a runtime does: from the index to the files, and the entry point in them.
func TestImageRuns(t *testing.T) {
	dir := build(t)
	text, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var index, platforms struct{ Manifests []descriptor }
	decode(t, text, &index)
	if len(index.Manifests) != 1 || index.Manifests[0].Annotations["org.opencontainers.image.ref.name"] != "1.2.0" {
		t.Fatalf("index %s", text)
	}
	decode(t, read(t, dir, index.Manifests[0]), &platforms)
	if len(platforms.Manifests) != 2 || *platforms.Manifests[1].Platform != (platform{"arm64", "linux"}) {
		t.Fatalf("platforms %+v", platforms)
	}
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	decode(t, read(t, dir, platforms.Manifests[0]), &manifest)
	var config struct {
		Config struct {
			User            string
			Entrypoint, Cmd []string
		}
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	decode(t, read(t, dir, manifest.Config), &config)
	z, err := gzip.NewReader(bytes.NewReader(read(t, dir, manifest.Layers[0])))
	if err != nil {
		t.Fatal(err)
	}
	files, err := io.ReadAll(z)
	if err != nil || digest(files) != config.RootFS.DiffIDs[0] {
		t.Fatalf("the layer is not the one of the configuration: %v", err)
	}
	root := t.TempDir()
	for r := tar.NewReader(bytes.NewReader(files)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(root, h.Name)
		if h.Typeflag == tar.TypeDir {
			err = os.Mkdir(path, 0o755)
		} else {
			var text []byte
			if text, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(path, text, h.FileInfo().Mode().Perm())
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if os.Getuid() != 0 {
		return // nobody else may change the root
	}
	cmd := exec.Command(config.Config.Entrypoint[0], config.Config.Cmd...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: user, Gid: user}}
	cmd.Dir = "/"
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "agent 7946 true\n" || config.Config.User != "banmesh" {
		t.Errorf("the entry point says %q, %v; user %s", out, err, config.Config.User)
	}
}

func TestSameProgramsGiveTheSameImage(t *testing.T) {
	blobs := func(dir string) map[string]bool {
		names := make(map[string]bool)
		entries, err := os.ReadDir(filepath.Join(dir, "blobs", "sha256"))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names[e.Name()] = true
		}
		return names
	}
	if a, b := blobs(build(t)), blobs(build(t)); !maps.Equal(a, b) {
		t.Errorf("blobs %v and %v", a, b)
	}
}
