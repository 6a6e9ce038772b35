package node_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestWebSocket passes raw bytes through a whole node, and stops it meanwhile.
func TestWebSocket(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		r := bufio.NewReader(c)
		if _, err := http.ReadRequest(r); err == nil {
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
			io.Copy(c, r)
		}
	}()
	n := inProcess(t, writeConfig(t, t.TempDir(), addresses+`
[[pool]]
name = "o"
origins = ["http://`+ln.Addr().String()+`"]
[[site]]
name = "shop"
hosts = ["shop.example"]
pool = "o"
upgrades = ["websocket"]
`))
	c, err := net.Dial("tcp", strings.TrimPrefix(n.data, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	// A pipelined request before it, and a frame right behind it.
	io.WriteString(c, "GET /x HTTP/1.1\r\nHost: nowhere.example\r\n\r\nGET /ws HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x02hi")
	r := bufio.NewReader(c)
	first, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, first.Body)
	second, err := http.ReadResponse(r, nil)
	if err != nil || second.StatusCode != 101 || second.Header.Get("Upgrade") != "websocket" || second.Header.Get("Connection") != "Upgrade" {
		t.Fatalf("%v %v", second, err)
	}
	echo := make([]byte, 4)
	if _, err := io.ReadFull(r, echo); err != nil || string(echo) != "\x81\x02hi" {
		t.Fatalf("%q %v", echo, err)
	}
	n.signal(stop)
	rest, err := io.ReadAll(r)
	if err != nil || string(rest) != "\x88\x02\x03\xe9" {
		t.Errorf("at the end %q %v", rest, err)
	}
	<-n.done
	if strings.Contains(n.log.String(), "cut off") {
		t.Errorf("it was cut:\n%s", n.log)
	}
}
