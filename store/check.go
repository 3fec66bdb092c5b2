package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"syscall"
)

// The layout of bbolt's pages, from its internal/common/{page,meta,bucket}.go. Numbers are in the machine's own byte order.
const (
	pageHeader  = 16 // id uint64, flags uint16, count uint16, overflow uint32
	pageElement = 16 // leaf: flags, pos, ksize, vsize uint32; branch: pos, ksize uint32, page uint64

	pageBranch   = 0x01
	pageLeaf     = 0x02
	pageMeta     = 0x04
	pageFreelist = 0x10

	boltMagic   = 0xED0CDAED
	boltVersion = 2
	boltNoList  = 1<<64 - 1
)

var native = binary.NativeEndian

// boltMeta is what the check needs of bbolt's header, which stands on pages 0 and 1 in turn: the
// page that holds the tree's root, the one that lists the free pages (boltNoList if it is not kept
// in the file), and how many pages have ever been used.
type boltMeta struct {
	pageSize             int64
	root, freelist, high uint64
	txid                 uint64
}

// parseMeta reads a meta page, or reports that it is not a valid one.
func parseMeta(p []byte) (m boltMeta, ok bool) {
	if len(p) < pageHeader+64 || native.Uint16(p[8:]) != pageMeta {
		return m, false
	}
	b := p[pageHeader:]
	h := fnv.New64a()
	h.Write(b[:56])
	if native.Uint32(b) != boltMagic || native.Uint32(b[4:]) != boltVersion || native.Uint64(b[56:]) != h.Sum64() {
		return m, false
	}
	m = boltMeta{int64(native.Uint32(b[8:])), native.Uint64(b[16:]), native.Uint64(b[32:]), native.Uint64(b[40:]), native.Uint64(b[48:])}
	return m, m.pageSize >= 512 && m.pageSize <= 1<<20
}

// fileCheck walks every page that a bbolt file reaches from its root.
type fileCheck struct {
	f       *os.File
	meta    boltMeta
	headers int      // how many of the two are valid
	seen    []uint64 // one bit for each page
}

// lostHeader is the doubt about a file with only one valid header. bbolt writes the two headers in turn, one for each
// transaction, and falls back to the older one if the newer is damaged. The last transaction is then missing, and nothing else
// in the file shows it. The next commits rewrite both.
const lostHeader = "one of its two headers is damaged: what was written last may be missing"

// checkFile reads the file's whole structure and returns a *damagedError if any of it cannot be trusted; doubt says what may be
// missing from a file that can be. It changes nothing. A missing file is fine.
func checkFile(path string) (doubt string, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("open store: %w", err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); err != nil {
		return "", fmt.Errorf("open %s: %w", path, ErrLocked)
	}
	c := &fileCheck{f: f}
	if what := c.run(); what != "" {
		return "", &damagedError{path, what}
	}
	if c.headers < 2 {
		return lostHeader, nil
	}
	return "", nil
}

// lockFile takes the lock that an agent holds on its store file, so that nothing changes while the file is checked.
func lockFile(path string) (unlock func(), err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("open %s: %w", path, ErrLocked)
	}
	if !isAt(f, path) {
		f.Close()
		return nil, fmt.Errorf("open %s: %w", path, ErrLocked)
	}
	return func() { f.Close() }, nil
}

// run returns what is wrong with the file, "" for nothing. It visits every page that is reachable
// from the header once; a page met twice belongs to two owners, one of which would overwrite the
// other.
func (c *fileCheck) run() (what string) {
	info, err := c.f.Stat()
	if err != nil {
		return err.Error()
	}
	if !c.findMeta() {
		return "no valid header"
	}
	m := &c.meta
	if pages := uint64(info.Size() / m.pageSize); m.high < 3 || m.high > pages {
		return fmt.Sprintf("it has %d pages and should have %d", pages, m.high)
	}
	c.seen = make([]uint64, m.high/64+1)
	c.mark(0)
	c.mark(1)
	if m.freelist != boltNoList {
		if what := c.freelist(m.freelist); what != "" {
			return what
		}
	}
	return c.tree(m.root, nil, nil)
}

// findMeta takes the newer of the two headers that is valid, as bbolt does, and counts them.
func (c *fileCheck) findMeta() bool {
	try := func(at int64) {
		b := make([]byte, pageHeader+64)
		if _, err := c.f.ReadAt(b, at); err != nil {
			return
		}
		m, ok := parseMeta(b)
		// The second header is on page 1, so it must stand where its own page size says.
		if !ok || at != 0 && at != m.pageSize {
			return
		}
		if c.headers == 0 || m.txid > c.meta.txid {
			c.meta = m
		}
		c.headers++
	}
	try(0)
	// If the first header is damaged, the page size is not known, so each that it may be is tried.
	for size := int64(512); size <= 1<<20; size *= 2 {
		try(size)
	}
	return c.headers > 0
}

// mark reports whether the page exists and is met for the first time: a page met twice means a damaged tree.
func (c *fileCheck) mark(id uint64) bool {
	if id >= c.meta.high || c.seen[id/64]>>(id%64)&1 != 0 {
		return false
	}
	c.seen[id/64] |= 1 << (id % 64)
	return true
}

// page reads a page with its overflow.
func (c *fileCheck) page(id uint64) ([]byte, string) {
	if !c.mark(id) {
		return nil, fmt.Sprintf("page %d is used twice or does not exist", id)
	}
	p := make([]byte, c.meta.pageSize)
	if _, err := c.f.ReadAt(p, int64(id)*c.meta.pageSize); err != nil {
		return nil, fmt.Sprintf("page %d: %v", id, err)
	}
	// A page that was written to a wrong place says so.
	if native.Uint64(p) != id {
		return nil, fmt.Sprintf("page %d calls itself %d", id, native.Uint64(p))
	}
	over := uint64(native.Uint32(p[12:]))
	for i := range over {
		if !c.mark(id + 1 + i) {
			return nil, fmt.Sprintf("page %d overflows into one that is used or does not exist", id)
		}
	}
	if over > 0 {
		p = make([]byte, int64(over+1)*c.meta.pageSize)
		if _, err := c.f.ReadAt(p, int64(id)*c.meta.pageSize); err != nil {
			return nil, fmt.Sprintf("page %d: %v", id, err)
		}
	}
	return p, ""
}

// freelist marks the free pages, so that a page of the tree which is also listed as free is found.
// A count of 0xffff means that the real one did not fit the page's header and stands before the
// list.
func (c *fileCheck) freelist(id uint64) string {
	p, what := c.page(id)
	if what != "" {
		return what
	}
	if native.Uint16(p[8:]) != pageFreelist {
		return fmt.Sprintf("page %d is no freelist", id)
	}
	n, at := uint64(native.Uint16(p[10:])), uint64(pageHeader)
	if n == 0xffff {
		n, at = native.Uint64(p[at:]), at+8
	}
	if n > (uint64(len(p))-at)/8 {
		return "freelist longer than its page"
	}
	for i := range n {
		if free := native.Uint64(p[at+8*i:]); !c.mark(free) {
			return fmt.Sprintf("free page %d is used or does not exist", free)
		}
	}
	return ""
}

// tree checks a page and what hangs below it. Its keys must lie from first up to, but not including, end.
func (c *fileCheck) tree(id uint64, first, end []byte) string {
	p, what := c.page(id)
	if what != "" {
		return what
	}
	return c.elements(id, p, first, end)
}

// elements checks one page of a tree: that each element lies within the page, and that its keys
// ascend, are not below first and are below end (nil: no bound). bbolt searches by these keys
// without checking them; a key out of order makes it write beside the right place, and an offset
// outside the page makes it read beyond the mapped file.
func (c *fileCheck) elements(id uint64, p, first, end []byte) string {
	kind, n := native.Uint16(p[8:]), int(native.Uint16(p[10:]))
	bad := func(format string, args ...any) string {
		return fmt.Sprintf("page %d: ", id) + fmt.Sprintf(format, args...)
	}
	if kind != pageBranch && kind != pageLeaf {
		return bad("neither branch nor leaf")
	}
	if pageHeader+n*pageElement > len(p) {
		return bad("%d elements do not fit", n)
	}
	if kind == pageBranch && n == 0 {
		return bad("branch without children")
	}
	cut := func(e, pos, ksize, vsize uint64) (k, v []byte, ok bool) {
		if e+pos+ksize+vsize > uint64(len(p)) {
			return nil, nil, false
		}
		return p[e+pos : e+pos+ksize], p[e+pos+ksize : e+pos+ksize+vsize], true
	}
	keys := make([][]byte, n)
	children := make([]uint64, n)
	for i := range n {
		at := uint64(pageHeader + i*pageElement)
		e := p[at : at+pageElement]
		var k, v []byte
		var ok bool
		if kind == pageBranch {
			k, _, ok = cut(at, uint64(native.Uint32(e)), uint64(native.Uint32(e[4:])), 0)
			children[i] = native.Uint64(e[8:])
		} else {
			k, v, ok = cut(at, uint64(native.Uint32(e[4:])), uint64(native.Uint32(e[8:])), uint64(native.Uint32(e[12:])))
		}
		if !ok {
			return bad("element %d lies outside", i)
		}
		if i > 0 && bytes.Compare(keys[i-1], k) >= 0 || i == 0 && kind == pageLeaf && bytes.Compare(k, first) < 0 || end != nil && bytes.Compare(k, end) >= 0 {
			return bad("key %d is out of order", i)
		}
		keys[i] = k
		// The flag of an element that is a bucket.
		if kind == pageLeaf && native.Uint32(e)&1 != 0 {
			if what := c.bucket(id, v); what != "" {
				return what
			}
		}
	}
	if kind == pageLeaf {
		return ""
	}
	for i, child := range children {
		next := end
		if i+1 < n {
			next = keys[i+1]
		}
		if what := c.tree(child, keys[i], next); what != "" {
			return what
		}
	}
	return ""
}

// bucket checks a bucket's value: the page of its root, or a small leaf inline.
func (c *fileCheck) bucket(id uint64, v []byte) string {
	if len(v) < 16 {
		return fmt.Sprintf("page %d: bucket without root", id)
	}
	if root := native.Uint64(v); root != 0 {
		return c.tree(root, nil, nil)
	}
	if len(v) < 16+pageHeader || native.Uint16(v[16+8:]) != pageLeaf {
		return fmt.Sprintf("page %d: inline bucket is no leaf", id)
	}
	return c.elements(id, v[16:], nil, nil)
}
