package web

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"banmesh/mesh/control"
)

// render renders a variant of the set. The tag depends only on the content: the same set has the same tag after a restart and
// on every member.
func render(set replicatedSet, v variant) (body []byte, etag string, err error) {
	all := read(set, v.family, "")
	if v.aggregate {
		all = aggregated(all)
	}
	switch v.format {
	case inJSON:
		body = appendJSON(make([]byte, 0, 72*len(all)+8), all)
	case nft:
		body = appendNft(make([]byte, 0, 20*len(all)+1024), all)
	case ipset:
		body = appendIPSet(make([]byte, 0, 40*len(all)+1024), all)
	default:
		body = appendLines(make([]byte, 0, 18*len(all)), all, v.cidr)
	}
	sum := sha256.Sum256(body)
	etag = hex.EncodeToString(sum[:16])
	switch {
	case v.format == srx:
		body, err = archive(body)
	case v.gzip:
		etag += "-gzip"
		body, err = compress(body)
	}
	return body, `"` + etag + `"`, err
}

// appendLines writes one prefix per line and nothing else, neither comments nor a head. Single addresses have no length
// unless cidr asks for it, since most firewalls read lists of addresses.
func appendLines(b []byte, all []entry, cidr bool) []byte {
	for _, e := range all {
		if p := e.prefix(); p.IsSingleIP() && !cidr {
			b = p.Addr().AppendTo(b)
		} else {
			b = p.AppendTo(b)
		}
		b = append(b, '\n')
	}
	return b
}

// appendJSON writes an array of {"prefix", "until"} with one object per line. until is RFC 3339, or null without an end, as
// in `list --json`.
func appendJSON(b []byte, all []entry) []byte {
	sep := byte('[')
	for _, e := range all {
		b = append(b, sep)
		b = append(b, `{"prefix":"`...)
		b = e.prefix().AppendTo(b)
		b = append(b, `","until":`...)
		until, _ := control.Until(e.until).MarshalJSON() // never fails
		b = append(b, until...)
		b = append(b, "}\n"...)
		sep = ','
	}
	if sep == '[' {
		b = append(b, '[')
	}
	return append(b, "]\n"...)
}

// compress prefers speed to size: most readers are in the same rack.
func compress(body []byte) ([]byte, error) {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(body); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// The archive of /feed/srx.
const (
	srxDir  = "banmesh"
	srxFile = srxDir + "/bans"
)

// archive packs the lines as `security dynamic-address feed-server` of Junos
// fetches them in the bundle form: a gzipped tar of a directory with a file for
// each feed, of which `feed-name … path` names the path in the archive. An entry
// is an address, a prefix or a range, IPv4 or IPv6.
// Source: K. Hendrych, "SRX Dynamic IP Objects aka Feed-server", Juniper
// Community TechPost, 2025-11-30; the archives of nchekwa/cloud-iprange-feeder
// are the same.
//
// Its times are fixed, so that the same set gives the same bytes. The SRX detects changes by a HEAD request.
func archive(lines []byte) ([]byte, error) {
	var packed bytes.Buffer
	t := tar.NewWriter(&packed)
	at := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	head := tar.Header{Typeflag: tar.TypeDir, Name: srxDir + "/", Mode: 0o755, ModTime: at, Format: tar.FormatUSTAR}
	if err := t.WriteHeader(&head); err != nil {
		return nil, err
	}
	head = tar.Header{Typeflag: tar.TypeReg, Name: srxFile, Mode: 0o644, Size: int64(len(lines)), ModTime: at, Format: tar.FormatUSTAR}
	if err := t.WriteHeader(&head); err != nil {
		return nil, err
	}
	if _, err := t.Write(lines); err != nil {
		return nil, err
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	return compress(packed.Bytes())
}
