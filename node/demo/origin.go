package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path"
	"strings"
	"sync/atomic"
)

// An origin serves a tree of files under /src/, with validators and a simple
// rule for lifetimes. It counts its requests.
type origin struct {
	url      string
	root     *os.Root
	server   *http.Server
	done     chan error
	requests atomic.Int64
}

func newOrigin(dir string) (*origin, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	o := &origin{url: "http://" + listener.Addr().String(), root: root, done: make(chan error, 1)}
	o.server = &http.Server{Handler: o}
	go func() { o.done <- o.server.Serve(listener) }()
	return o, nil
}

// ServeHTTP answers with a file.
func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.requests.Add(1)
	name, ok := strings.CutPrefix(r.URL.Path, "/src/")
	if !ok {
		http.NotFound(w, r)
		return
	}
	f, err := o.root.Open(name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("ETag", fmt.Sprintf(`"%x-%x"`, info.ModTime().UnixNano(), info.Size()))
	w.Header().Set("Cache-Control", lifetime(name))
	w.Header().Set("Content-Type", contentType(name))
	http.ServeContent(w, r, name, info.ModTime(), f)
}

// lifetime is the rule: sources live for an hour, test data for ten minutes.
func lifetime(name string) string {
	if strings.Contains(name, "testdata/") {
		return "public, max-age=600"
	}
	return "public, max-age=3600"
}

func contentType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".png":
		return "image/png"
	case ".json":
		return "application/json"
	case ".go", ".s", ".txt", ".md", ".mod", ".golden", ".h", ".c":
		return "text/plain; charset=utf-8"
	}
	return "application/octet-stream"
}

func (o *origin) close() error {
	err := o.server.Close()
	<-o.done
	if e := o.root.Close(); err == nil {
		err = e
	}
	return err
}
