package l2

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// A Mode is the way in which Redis is run.
type Mode string

// The modes.
const (
	Single   Mode = "single"
	Sentinel Mode = "sentinel"
	Cluster  Mode = "cluster"
)

// An address is a parsed Options.URL.
type address struct {
	mode               Mode
	network            string   // tcp or unix
	hosts              []string // host:port; for unix one path
	tls                *tls.Config
	username, password string
	master             string // of the sentinels
	db                 int
}

var schemes = map[string]struct {
	mode Mode
	tls  bool
}{
	"redis": {Single, false}, "rediss": {Single, true},
	"redis+sentinel": {Sentinel, false}, "rediss+sentinel": {Sentinel, true},
	"redis+cluster": {Cluster, false}, "rediss+cluster": {Cluster, true},
}

// parseURL reads the forms of the package comment. net/url takes one host only,
// so the lists of hosts are taken apart here. No error shows the password.
func parseURL(text string) (address, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return address{}, errors.New("URL must begin with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://")
	}
	rest, query, hasQuery := strings.Cut(rest, "?")
	if scheme == "unix" {
		return parseUnix(rest, query)
	}
	form, ok := schemes[scheme]
	if !ok {
		return address{}, fmt.Errorf("URL has the scheme %q, allowed are redis, rediss, unix, redis+sentinel, rediss+sentinel, redis+cluster, rediss+cluster", scheme)
	}
	a := address{mode: form.mode, network: "tcp"}
	if hasQuery {
		return a, errors.New("URL has a query, which only unix:// knows")
	}
	authority, path, _ := strings.Cut(rest, "/")
	if err := errors.Join(a.readUser(&authority), a.readHosts(authority), a.readPath(path)); err != nil {
		return a, err
	}
	if form.tls {
		a.tls = &tls.Config{MinVersion: tls.VersionTLS12}
		if len(a.hosts) == 1 {
			a.tls.ServerName, _, _ = net.SplitHostPort(a.hosts[0])
		}
	}
	return a, nil
}

// readUser takes "user:password@" from the front of authority.
func (a *address) readUser(authority *string) error {
	at := strings.LastIndexByte(*authority, '@')
	if at < 0 {
		return nil
	}
	user, password, _ := strings.Cut((*authority)[:at], ":")
	*authority = (*authority)[at+1:]
	var err1, err2 error
	a.username, err1 = url.PathUnescape(user)
	a.password, err2 = url.PathUnescape(password)
	if err1 != nil || err2 != nil {
		return errors.New("URL has a user or password with a malformed %-escape")
	}
	return nil
}

func (a *address) readHosts(list string) error {
	port := "6379"
	if a.mode == Sentinel {
		port = "26379"
	}
	for _, h := range strings.Split(list, ",") {
		host, own, err := net.SplitHostPort(h)
		if err != nil { // no port
			host, own = strings.Trim(h, "[]"), port
		}
		n, err := strconv.Atoi(own)
		if host == "" || err != nil || n < 1 || n > 65535 {
			return fmt.Errorf("URL has the host %q, it must be a name or address, with or without a port", h)
		}
		a.hosts = append(a.hosts, net.JoinHostPort(host, own))
	}
	if a.mode == Single && len(a.hosts) > 1 {
		return errors.New("URL has several hosts: use redis+sentinel:// or redis+cluster://")
	}
	return nil
}

func (a *address) readPath(path string) error {
	db := path
	switch a.mode {
	case Cluster:
		if path != "" && path != "0" {
			return fmt.Errorf("URL has the path /%s, a cluster has database 0 only", path)
		}
		return nil
	case Sentinel:
		a.master, db, _ = strings.Cut(path, "/")
		if a.master == "" {
			return errors.New("URL lacks the name of the master: redis+sentinel://host,host/name/0")
		}
	}
	return a.readDB(db)
}

func (a *address) readDB(text string) error {
	if text == "" {
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return fmt.Errorf("URL has the database %q, it must be a number from 0 on", text)
	}
	a.db = n
	return nil
}

// parseUnix reads [user:password@]/path and db=n.
func parseUnix(rest, query string) (address, error) {
	a := address{mode: Single, network: "unix"}
	if !strings.HasPrefix(rest, "/") {
		if err := a.readUser(&rest); err != nil {
			return a, err
		}
	}
	if !strings.HasPrefix(rest, "/") {
		return a, errors.New("URL lacks the absolute path of the socket: unix:///run/redis.sock")
	}
	a.hosts = []string{rest}
	values, err := url.ParseQuery(query)
	if err != nil {
		return a, errors.New("URL has a malformed query, allowed is db=n")
	}
	for name := range values {
		if name != "db" {
			return a, fmt.Errorf("URL has the parameter %q, allowed is db", name)
		}
	}
	return a, a.readDB(values.Get("db"))
}
