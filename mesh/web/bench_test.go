package web

import "testing"

// BenchmarkRender writes a feed of 100,000 entries.
func BenchmarkRender(b *testing.B) {
	set := figureStore(b)
	for _, v := range []struct {
		name string
		variant
	}{
		{"plain", variant{}}, {"aggregate", variant{aggregate: true}}, {"json", variant{format: inJSON}},
		{"json-gzip", variant{format: inJSON, gzip: true}}, {"srx", variant{format: srx}},
	} {
		b.Run(v.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := render(set, v.variant); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			read(set, 0, "")
		}
	})
	b.Run("effective", func(b *testing.B) {
		for b.Loop() {
			for range set.Effective() {
			}
		}
	})
}
