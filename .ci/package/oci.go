// Command oci writes an OCI image layout of the program, without a daemon and
// without a base image: skopeo, podman and docker's buildx read it. The same
// programs give the same bytes: every time in it is $SOURCE_DATE_EPOCH.
//
//	go run .ci/package/oci.go DIR VERSION amd64=bin/linux-amd64 arm64=bin/linux-arm64
//
// Format: https://github.com/opencontainers/image-spec, version 1.1.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: oci DIR VERSION ARCH=BIN...")
		os.Exit(2)
	}
	seconds, _ := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	l := layout{dir: os.Args[1], version: os.Args[2], at: time.Unix(seconds, 0).UTC()}
	if err := l.write(os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, "oci:", err)
		os.Exit(1)
	}
}

// user is the agent's in the image; what it writes to a volume belongs to it.
const user = 7946

type layout struct {
	dir, version string
	at           time.Time
}

// descriptor names a blob.
type descriptor struct {
	MediaType string    `json:"mediaType"`
	Digest    string    `json:"digest"`
	Size      int       `json:"size"`
	Platform  *platform `json:"platform,omitempty"`

	Annotations map[string]string `json:"annotations,omitempty"`
}

type platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

func (l *layout) write(arches []string) error {
	if err := os.MkdirAll(filepath.Join(l.dir, "blobs", "sha256"), 0o755); err != nil {
		return err
	}
	var images []descriptor
	for _, a := range arches {
		arch, bin, _ := strings.Cut(a, "=")
		d, err := l.image(arch, bin)
		if err != nil {
			return fmt.Errorf("%s: %w", arch, err)
		}
		images = append(images, d)
	}
	// One name for all platforms: an index in the index.
	all, err := l.blob("application/vnd.oci.image.index.v1+json", object{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": images,
	})
	if err != nil {
		return err
	}
	all.Annotations = map[string]string{"org.opencontainers.image.ref.name": l.version}
	index, err := json.Marshal(object{"schemaVersion": 2, "manifests": []descriptor{all}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(l.dir, "index.json"), index, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(l.dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644)
}

type object map[string]any

func (l *layout) image(arch, bin string) (descriptor, error) {
	files, err := l.files(bin)
	if err != nil {
		return descriptor{}, err
	}
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return descriptor{}, err
	}
	if _, err := z.Write(files); err != nil {
		return descriptor{}, err
	}
	if err := z.Close(); err != nil {
		return descriptor{}, err
	}
	layer, err := l.raw("application/vnd.oci.image.layer.v1.tar+gzip", packed.Bytes())
	if err != nil {
		return descriptor{}, err
	}
	config, err := l.blob("application/vnd.oci.image.config.v1+json", object{
		"created": l.at.Format(time.RFC3339), "architecture": arch, "os": "linux",
		"config": object{
			"User": "banmesh", "Entrypoint": []string{"/usr/bin/banmesh"}, "Cmd": []string{"agent", "--config", "/etc/banmesh/banmesh.yaml"},
			"Env": []string{"PATH=/usr/bin"}, "Volumes": object{"/var/lib/banmesh": object{}}, "StopSignal": "SIGTERM",
			"ExposedPorts": object{"7946/tcp": object{}, "7946/udp": object{}},
			"Labels":       object{"org.opencontainers.image.title": "banmesh", "org.opencontainers.image.version": l.version},
		},
		"rootfs":  object{"type": "layers", "diff_ids": []string{digest(files)}},
		"history": []object{{"created": l.at.Format(time.RFC3339), "created_by": "banmesh"}},
	})
	if err != nil {
		return descriptor{}, err
	}
	d, err := l.blob("application/vnd.oci.image.manifest.v1+json", object{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": []descriptor{layer},
	})
	d.Platform = &platform{arch, "linux"}
	return d, err
}

// files are those of the image, as a tar.
func (l *layout) files(bin string) ([]byte, error) {
	var out bytes.Buffer
	t := tar.NewWriter(&out)
	add := func(name string, mode int64, owner int, content []byte) error {
		h := tar.Header{Name: name, Mode: mode, Uid: owner, Gid: owner, ModTime: l.at, Format: tar.FormatPAX, Typeflag: tar.TypeReg, Size: int64(len(content))}
		if strings.HasSuffix(name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := t.WriteHeader(&h); err != nil {
			return err
		}
		_, err := t.Write(content)
		return err
	}
	for _, f := range []struct {
		name  string
		mode  int64
		owner int
		text  string
	}{
		{"etc/", 0o755, 0, ""},
		{"etc/banmesh/", 0o755, 0, ""}, // the configuration and the keyring are mounted here
		{"etc/group", 0o644, 0, fmt.Sprintf("root:x:0:\nbanmesh:x:%d:\n", user)},
		{"etc/passwd", 0o644, 0, fmt.Sprintf("root:x:0:0::/:/sbin/nologin\nbanmesh:x:%d:%d::/var/lib/banmesh:/sbin/nologin\n", user, user)},
		{"run/", 0o755, 0, ""},
		{"run/banmesh/", 0o750, user, ""},
		{"tmp/", 0o1777, 0, ""},
		{"usr/", 0o755, 0, ""},
		{"usr/bin/", 0o755, 0, ""},
	} {
		if err := add(f.name, f.mode, f.owner, []byte(f.text)); err != nil {
			return nil, err
		}
	}
	for _, program := range []string{"banmesh", "banmesh-hook"} {
		text, err := os.ReadFile(filepath.Join(bin, program))
		if err != nil {
			return nil, err
		}
		if err := add("usr/bin/"+program, 0o755, 0, text); err != nil {
			return nil, err
		}
	}
	for _, dir := range []string{"var/", "var/lib/"} {
		if err := add(dir, 0o755, 0, nil); err != nil {
			return nil, err
		}
	}
	if err := add("var/lib/banmesh/", 0o750, user, nil); err != nil {
		return nil, err
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func (l *layout) blob(mediaType string, v any) (descriptor, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return descriptor{}, err
	}
	return l.raw(mediaType, text)
}

func (l *layout) raw(mediaType string, text []byte) (descriptor, error) {
	d := digest(text)
	path := filepath.Join(l.dir, "blobs", "sha256", strings.TrimPrefix(d, "sha256:"))
	return descriptor{MediaType: mediaType, Digest: d, Size: len(text)}, os.WriteFile(path, text, 0o644)
}

func digest(text []byte) string {
	sum := sha256.Sum256(text)
	return "sha256:" + hex.EncodeToString(sum[:])
}
