// Package geo tells of an address to which autonomous system and to which country it belongs, from databases in MaxMind's format.
//
// It is for people only: its words are shown, and no ban, commit or enforcement depends on them. The
// databases are files that the operator provides and renews (geo.asn_db, geo.country_db); without them, or with a broken
// one, everything else works, and Trouble says why a column is empty. Nothing is ever asked over the network.
package geo

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"

	"github.com/oschwald/maxminddb-golang/v2"

	"banmesh/mesh/config"
	"banmesh/mesh/control"
	"banmesh/mesh/history"
)

// Atlas is the databases that the configuration names, and counts offences by system and country. It is opened for each answer:
// replacing a file needs no reload. It is not safe for concurrent use.
type Atlas struct {
	asn, country *maxminddb.Reader // nil where none is configured, or it cannot be read
	errs         []error
	asns         map[uintptr]*control.ASNShare // by where the database keeps it
	countries    map[uintptr]*control.NamedShare
}

// Open opens the databases. One that cannot be read is left out; Trouble says so.
func Open(g config.Geo) *Atlas {
	p := &Atlas{asns: make(map[uintptr]*control.ASNShare), countries: make(map[uintptr]*control.NamedShare)}
	p.asn = p.open("geo.asn_db", g.ASNDB)
	p.country = p.open("geo.country_db", g.CountryDB)
	return p
}

// open keeps the error for Trouble: without a database everything else works.
func (p *Atlas) open(key, path string) *maxminddb.Reader {
	if path == "" {
		return nil
	}
	db, err := maxminddb.Open(path)
	if err != nil {
		p.errs = append(p.errs, fmt.Errorf("%s %s: %w", key, path, err))
		return nil
	}
	return db
}

// printable is a text of a database as a terminal may show it.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	return control.OneLine(s)
}

// Close closes the databases.
func (p *Atlas) Close() {
	for _, db := range []*maxminddb.Reader{p.asn, p.country} {
		if db != nil {
			db.Close()
		}
	}
}

// Trouble says why a database is not asked, "" where none has failed.
func (p *Atlas) Trouble() string {
	if err := errors.Join(p.errs...); err != nil {
		return control.OneLine(err.Error())
	}
	return ""
}

// shareOf returns the share that an address belongs to, nil where it is not known. seen has those made before, by where the
// database keeps them: many addresses are of one network, and to decode it again for each would take most of the time.
func shareOf[S any](db *maxminddb.Reader, seen map[uintptr]*S, a netip.Addr, decode func(maxminddb.Result) (S, error)) *S {
	if db == nil {
		return nil
	}
	r := db.Lookup(a)
	if !r.Found() {
		return nil
	}
	s := seen[r.Offset()]
	if s == nil {
		share, err := decode(r)
		if err != nil {
			return nil
		}
		s = &share
		seen[r.Offset()] = s
	}
	return s
}

// system returns the share of the system that an address belongs to.
func (p *Atlas) system(a netip.Addr) *control.ASNShare {
	return shareOf(p.asn, p.asns, a, func(r maxminddb.Result) (control.ASNShare, error) {
		var record struct {
			Number uint32 `maxminddb:"autonomous_system_number"`
			Name   string `maxminddb:"autonomous_system_organization"`
		}
		err := r.Decode(&record)
		return control.ASNShare{ASN: record.Number, Name: printable(record.Name)}, err
	})
}

// land returns the share of the country that an address belongs to.
func (p *Atlas) land(a netip.Addr) *control.NamedShare {
	return shareOf(p.country, p.countries, a, func(r maxminddb.Result) (control.NamedShare, error) {
		var record struct {
			Country struct {
				ISOCode string `maxminddb:"iso_code"`
			} `maxminddb:"country"`
			Registered struct {
				ISOCode string `maxminddb:"iso_code"`
			} `maxminddb:"registered_country"`
		}
		err := r.Decode(&record)
		return control.NamedShare{Name: printable(cmp.Or(record.Country.ISOCode, record.Registered.ISOCode))}, err
	})
}

// Of says where an address belongs.
func (p *Atlas) Of(a netip.Addr) (place control.Place) {
	if s := p.system(a); s != nil {
		place.ASN, place.ASName = s.ASN, s.Name
	}
	if s := p.land(a); s != nil {
		place.Country = s.Name
	}
	return place
}

// Each counts a network; nil where there is no database.
func (p *Atlas) Each() func(history.NetworkCount) {
	if p.asn == nil && p.country == nil {
		return nil
	}
	return func(n history.NetworkCount) {
		if s := p.system(n.Prefix.Addr()); s != nil {
			s.Live, s.Past, s.Total = s.Live+n.Live, s.Past+n.Past, s.Total+n.Live+n.Past
		}
		if s := p.land(n.Prefix.Addr()); s != nil {
			s.Live, s.Past, s.Total = s.Live+n.Live, s.Past+n.Past, s.Total+n.Live+n.Past
		}
	}
}

// Top returns the systems and the countries with the most offences. A database may hold one of them at several places.
func (p *Atlas) Top(n int) (asns []control.ASNShare, countries []control.NamedShare) {
	bySystem := make(map[uint32]*control.ASNShare)
	for _, s := range p.asns {
		if one := bySystem[s.ASN]; one != nil {
			one.Live, one.Past, one.Total = one.Live+s.Live, one.Past+s.Past, one.Total+s.Total
		} else {
			bySystem[s.ASN] = s
		}
	}
	for _, s := range bySystem {
		if s.Total > 0 {
			asns = append(asns, *s)
		}
	}
	byCode := make(map[string]*control.NamedShare)
	for _, s := range p.countries {
		if one := byCode[s.Name]; one != nil {
			one.Live, one.Past, one.Total = one.Live+s.Live, one.Past+s.Past, one.Total+s.Total
		} else {
			byCode[s.Name] = s
		}
	}
	for _, s := range byCode {
		if s.Total > 0 {
			countries = append(countries, *s)
		}
	}
	slices.SortFunc(asns, func(a, b control.ASNShare) int { return cmp.Or(b.Total-a.Total, cmp.Compare(a.ASN, b.ASN)) })
	slices.SortFunc(countries, func(a, b control.NamedShare) int {
		return cmp.Or(b.Total-a.Total, cmp.Compare(a.Name, b.Name))
	})
	n = cmp.Or(n, 10)
	return asns[:min(n, len(asns))], countries[:min(n, len(countries))]
}
