package conductorsim

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// writeFile writes a file atomically: even after a power loss it has its old or its new content.
func writeFile(path string, content []byte, mode fs.FileMode) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(content); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// runningFile is the file of the running configuration in a Config's Dir.
const runningFile = "running.xml"

// firstRunning is the configuration of a new conductor.
const firstRunning = `<config xmlns="` + nsT128 + `"><authority xmlns="` + nsAuthy + `"><name>authority</name></authority></config>`

// ParseConfig reads a configuration document: the device's config element, or several parts of it in any element of
// the protocol's namespace (<config> or <data>).
func ParseConfig(doc []byte) (*Node, error) {
	cfg := DefaultConfig()
	config, err := configElement(doc, cfg.MaxDepth)
	if err != nil {
		return nil, err
	}
	ed := editor{storage: AsGiven}
	root := ed.apply(&Node{}, config, opMerge)
	if len(ed.errs) > 0 {
		return nil, ed.errs
	}
	return root, nil
}

// configElement parses a document into the content of an edit's <config>.
func configElement(doc []byte, depth int) (*Element, error) {
	e, err := parseXML(doc, depth)
	if err != nil {
		return nil, err
	}
	if e.Name.Space == nsBase && (e.Name.Local == "config" || e.Name.Local == "data") {
		return e, nil
	}
	return &Element{Children: []*Element{e}}, nil
}

// loadRunning loads the initial running configuration.
func loadRunning(cfg Config) (*Node, error) {
	doc, from := cfg.Initial, "initial configuration"
	if cfg.Dir != "" {
		path := filepath.Join(cfg.Dir, runningFile)
		kept, err := os.ReadFile(path)
		switch {
		case err == nil:
			doc, from = kept, path
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	if doc == nil {
		doc = []byte(firstRunning)
	}
	root, err := ParseConfig(doc)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from, err)
	}
	return root, nil
}

// saveRunning saves a running configuration in dir.
func saveRunning(dir string, root *Node) error {
	doc, err := MarshalConfig(root)
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, runningFile), append(doc, '\n'), 0o644)
}
