package fail2ban

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
)

// Keys under which the set keeps what the Notifier remembers.
const (
	jailsKey   = "fail2ban/jails"
	ignoredKey = "fail2ban/ignored"
)

// book lists the jails that fail2ban has had.
// A jail that fail2ban once had may be gone only for a moment, such as during a reload; an unknown name is a label of the
// mesh.
type book map[string]bool

func (b book) has(jail string) bool { return b[jail] }

// add reports whether the jail was new.
func (b book) add(jail string) bool {
	if b[jail] || jail == "" {
		return false
	}
	b[jail] = true
	return true
}

// loadBook starts empty if nothing was saved. The hooks fill it as fail2ban starts its jails.
func loadBook(set notices) book {
	b := make(book)
	var names []string
	load(set, jailsKey, &names)
	for _, name := range names {
		b[name] = true
	}
	return b
}

// save sorts, so that a book that did not change is the same in the file.
func (b book) save(ctx context.Context, set notices) error {
	names := make([]string, 0, len(b))
	for name := range b {
		names = append(names, name)
	}
	slices.Sort(names)
	return save(ctx, set, jailsKey, names)
}

// ignoredBook is, by jail, what the Notifier put on fail2ban's ignore lists: it may remove only that.
type ignoredBook map[string][]netip.Prefix

func loadIgnored(set notices) ignoredBook {
	b := make(ignoredBook)
	load(set, ignoredKey, &b)
	return b
}

// load leaves v unchanged if nothing readable is kept: fail2ban is then told again.
func load(set notices, key string, v any) {
	if raw, ok := set.Meta(key); ok {
		_ = json.Unmarshal(raw, v)
	}
}

// save keeps a value in the store's file. It is this router's business and not sent to other members.
func save(ctx context.Context, set notices, key string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("remember %s: %w", key, err)
	}
	return set.SaveMeta(ctx, key, raw)
}
