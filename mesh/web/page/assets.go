package page

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"net/http"
	"path"
	"time"
)

//go:embed assets/page.css assets/page.js assets/icon.svg
var assetFiles embed.FS

// assets are the page's files. Each path holds the hash of its content: browsers may keep it for ever, and a new build has
// new paths.
type assets struct {
	paths map[string]string // by name
	files map[string]asset  // by path
}

type asset struct {
	kind    string
	content []byte
}

// loadAssets puts a hash of the content into each path, so that browsers may keep a file for ever and still
// get the new one after an upgrade.
func loadAssets() (*assets, error) {
	a := &assets{paths: make(map[string]string), files: make(map[string]asset)}
	for name, kind := range map[string]string{
		"page.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8", "icon.svg": "image/svg+xml",
	} {
		content, err := assetFiles.ReadFile("assets/" + name)
		if err != nil {
			return nil, fmt.Errorf("page: %w", err)
		}
		sum := sha256.Sum256(content)
		at := path.Join("/assets", hex.EncodeToString(sum[:8]), name)
		a.paths[name], a.files[at] = at, asset{kind, content}
	}
	return a, nil
}

// ServeHTTP lets a browser keep a file for a year, since its path changes with its content.
func (a *assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	file, ok := a.files[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", file.kind)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	// Without a time: embedded files have none, and the path changes with the content.
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(file.content))
}
