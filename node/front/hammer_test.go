package front_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgenode/edgenode/node/front"
)

// material is what hammered bodies are made of.
var material = strings.Repeat("0123456789abcdef", 4<<10)

// hammered answers by the target: a letter for the way, and a size.
func hammered(x *front.Exchange) {
	way := x.Target()[1]
	n, _ := strconv.Atoi(string(x.Target()[2:]))
	body := []byte(material[:n])
	switch way {
	case 'w', 'W': // asks for the context's end, after or before the body
		if way == 'W' {
			x.Context().Done()
		}
		io.Copy(io.Discard, x.Body())
		x.Context().Done()
	case 'r':
		if got, err := io.Copy(io.Discard, x.Body()); got != int64(n) || err != nil {
			x.Abort()
		}
	case 'i':
		x.Informational(103, []byte("Link: </a>\r\n"))
	case 'u': // leaves the body, with and without its context in use
		if n%2 == 0 {
			x.Context().Done()
		}
	}
	x.Status(200)
	x.Add("Date", "D")
	switch way {
	case 'c', 'l':
		length := int64(-1)
		if way == 'l' {
			length = int64(n)
		}
		w, _ := x.Stream(length)
		for ; len(body) > 0; body = body[min(1000, len(body)):] {
			w.Write(body[:min(1000, len(body))])
		}
	case 'r', 'u':
		x.Send(nil)
	default:
		x.Send(body)
	}
}

// hammerRequest returns a random request and its answer.
func hammerRequest(r *rand.Rand) (request, answer string) {
	way := "swWcliru"[r.IntN(8)]
	n := []int{0, 1, 999, 1000, 8192, 8193, 20_000, 65_536}[r.IntN(8)]
	body := material[:n]
	request = fmt.Sprintf("GET /%c%d HTTP/1.1\r\nHost: h\r\n", way, n)
	withBody := way == 'r' || way == 'u' || way == 'W' && r.IntN(2) == 0
	switch {
	case withBody && r.IntN(2) == 0:
		request += fmt.Sprintf("Content-Length: %d\r\n\r\n%s", n, body)
	case withBody:
		request += "Transfer-Encoding: chunked\r\n\r\n"
		for rest := body; len(rest) > 0; {
			size := min(len(rest), 1+r.IntN(5000))
			request += fmt.Sprintf("%x\r\n%s\r\n", size, rest[:size])
			rest = rest[size:]
		}
		request += "0\r\n\r\n"
	default:
		request += "\r\n"
	}
	if way == 'i' {
		answer = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
	}
	answer += "HTTP/1.1 200 OK\r\nDate: D\r\n"
	switch way {
	case 'c':
		answer += "Transfer-Encoding: chunked\r\n\r\n"
		for rest := body; len(rest) > 0; rest = rest[min(1000, len(rest)):] {
			size := min(1000, len(rest))
			answer += fmt.Sprintf("%x\r\n%s\r\n", size, rest[:size])
		}
		answer += "0\r\n\r\n"
	case 'r', 'u':
		answer += "Content-Length: 0\r\n\r\n"
	default:
		answer += fmt.Sprintf("Content-Length: %d\r\n\r\n%s", n, body)
	}
	return request, answer
}

// TestHammer sends random pipelines, cut at random places, over several
// connections, and compares every byte of the answers.
func TestHammer(t *testing.T) {
	s := start(t, front.Options{}, hammered)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rounds := 40
	if raceEnabled {
		rounds = 10
	}
	var clients sync.WaitGroup
	for client := range 6 {
		clients.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(client)))
			for round := range rounds {
				if err := hammerOnce(s.Addr().String(), r); err != nil {
					t.Errorf("seed %d, client %d, round %d: %v", seed, client, round, err)
					return
				}
			}
		})
	}
	clients.Wait()
}

func hammerOnce(address string, r *rand.Rand) error {
	var requests, want strings.Builder
	for range 1 + r.IntN(20) {
		request, answer := hammerRequest(r)
		requests.WriteString(request)
		want.WriteString(answer)
	}
	nc, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer nc.Close()
	nc.SetDeadline(time.Now().Add(patience))
	raw := requests.String()
	cuts := []int{0}
	for at := 0; at < len(raw); cuts = append(cuts, at) {
		at = min(len(raw), at+1+r.IntN(30_000))
	}
	var sender sync.WaitGroup
	sender.Go(func() {
		for i := 1; i < len(cuts); i++ {
			io.WriteString(nc, raw[cuts[i-1]:cuts[i]])
		}
	})
	got := make([]byte, want.Len())
	_, err = io.ReadFull(nc, got)
	sender.Wait()
	if err == nil && string(got) != want.String() {
		at := 0
		for got[at] == want.String()[at] {
			at++
		}
		err = fmt.Errorf("answers differ at %d: %q, want %q", at, got[at:min(at+100, len(got))], want.String()[at:min(at+100, len(got))])
	}
	return err
}
