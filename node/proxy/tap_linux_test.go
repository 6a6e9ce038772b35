package proxy

import (
	"io"
	"net"
	"runtime"
	"testing"
)

// A lateWriter tells that it has written only when the end was read.
type lateWriter struct {
	*net.TCPConn
	end chan struct{} // closed when the end was read
}

func (c *lateWriter) Write(b []byte) (int, error) {
	n, err := c.TCPConn.Write(b)
	<-c.end
	for range 1000 {
		runtime.Gosched() // whoever read it goes on
	}
	return n, err
}

func (c *lateWriter) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	if err == io.EOF {
		close(c.end)
	}
	return n, err
}

// An origin took a request and closed: that is known even if the goroutine that
// sent it runs later than the one that reads.
func TestTookBeforeWriteReturned(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	tp := newTap(&lateWriter{client.(*net.TCPConn), make(chan struct{})})
	tp.begin()
	wrote := make(chan error, 1)
	go func() {
		_, err := io.WriteString(tp, "GET / HTTP/1.1\r\n\r\n")
		wrote <- err
	}()
	if _, err := io.ReadFull(server, make([]byte, 18)); err != nil {
		t.Fatal(err)
	}
	server.Close()
	if _, err := tp.Read(make([]byte, 1)); err != io.EOF {
		t.Error(err)
	}
	if !tp.took() {
		t.Error("the request counts as not taken")
	}
	if err := <-wrote; err != nil {
		t.Error(err)
	}
}
