package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// ErrElsewhere is wrapped for a target that is not on this machine, unless
// Options.Anywhere is set. Nothing was sent.
var ErrElsewhere = errors.New("load: target is not on this machine")

// itemPath is the path of a target that has none.
const itemPath = "/v1/items/bench/{key}"

// A target is a URL, ready to be written into requests. It is not changed after
// newTarget.
type target struct {
	address string // ip:port
	tls     *tls.Config
	path    []part
	tail    string // from after the path to the fields that differ
	put     string // fields of a PUT, up to the value of Content-Length
}

// A part of a path is text, or stands for a number of the job.
type part struct {
	text string
	kind byte // 't', or the first letter of "key" or "size"
}

func newTarget(ctx context.Context, text string, o *Options) (*target, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return nil, fmt.Errorf("%w: %q is not a URL; write scheme and host, as in http://127.0.0.1:8080", ErrOptions, text)
	}
	t := &target{}
	port := u.Port()
	if u.Scheme == "https" {
		t.tls = &tls.Config{ServerName: u.Hostname(), NextProtos: []string{"http/1.1"}}
	}
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	ip, err := resolve(ctx, u.Hostname(), o)
	if err != nil {
		return nil, err
	}
	t.address = net.JoinHostPort(ip.String(), port)
	// The path is taken from the text: parsing would escape the braces.
	_, rest, _ := strings.Cut(text, "://")
	rest, _, _ = strings.Cut(rest, "#")
	path := itemPath
	if i := strings.IndexAny(rest, "/?"); i >= 0 && rest[i:] != "/" {
		path = rest[i:]
	}
	if path[0] == '?' {
		path = "/" + path
	}
	if strings.ContainsAny(path, " \t\r\n") {
		return nil, fmt.Errorf("%w: %q has white space", ErrOptions, text)
	}
	t.path = parts(path)
	t.fields(u.Host, o)
	return t, nil
}

// fields lays out what stands in every request.
func (t *target) fields(host string, o *Options) {
	var b strings.Builder
	for _, h := range o.Headers {
		name, value, _ := strings.Cut(h, ":")
		if value = strings.TrimSpace(value); strings.EqualFold(name, "Host") {
			host = value
		} else {
			fmt.Fprintf(&b, "%s: %s\r\n", name, value)
		}
	}
	if o.Token != "" {
		fmt.Fprintf(&b, "Authorization: Bearer %s\r\n", o.Token)
	}
	t.tail = " HTTP/1.1\r\nHost: " + host + "\r\n" + b.String()
	t.put = "Content-Type: application/octet-stream\r\n"
	if o.Durability != "" {
		t.put += "Edge-Durability: " + o.Durability + "\r\n"
	}
	t.put += "Content-Length: "
}

// resolve returns an address of host, on this machine unless others are allowed.
func resolve(ctx context.Context, host string, o *Options) (netip.Addr, error) {
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("load: %s: %w", host, err)
	}
	for _, ip := range ips {
		if !ip.Unmap().IsLoopback() && !o.Anywhere {
			return netip.Addr{}, fmt.Errorf("%w: %s is %s", ErrElsewhere, host, ip)
		}
	}
	return ips[0].Unmap(), nil
}

func parts(path string) (list []part) {
	for path != "" {
		at, size, kind := len(path), 0, byte(0)
		for _, name := range []string{"{key}", "{size}"} {
			if i := strings.Index(path, name); i >= 0 && i < at {
				at, size, kind = i, len(name), name[1]
			}
		}
		if at > 0 {
			list = append(list, part{text: path[:at], kind: 't'})
		}
		if kind != 0 {
			list = append(list, part{kind: kind})
		}
		path = path[at+size:]
	}
	return list
}

// appendRequest appends the request of j. Values are the first bytes of blob.
func (t *target) appendRequest(b []byte, j *job, blob []byte) []byte {
	if j.write {
		b = append(b, "PUT "...)
	} else {
		b = append(b, "GET "...)
	}
	for _, p := range t.path {
		switch p.kind {
		case 'k':
			b = strconv.AppendUint(b, j.key, 10)
		case 's':
			b = strconv.AppendInt(b, int64(j.size), 10)
		default:
			b = append(b, p.text...)
		}
	}
	b = append(b, t.tail...)
	if !j.write {
		return append(b, "\r\n"...)
	}
	b = append(b, t.put...)
	b = strconv.AppendInt(b, int64(j.size), 10)
	b = append(b, "\r\n\r\n"...)
	return append(b, blob[:j.size]...)
}

func (t *target) dial(ctx context.Context, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout}
	if t.tls == nil {
		return d.DialContext(ctx, "tcp", t.address)
	}
	s := tls.Dialer{NetDialer: &d, Config: t.tls}
	return s.DialContext(ctx, "tcp", t.address)
}
