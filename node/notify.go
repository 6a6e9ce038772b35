package node

import (
	"fmt"
	"net"
	"strings"
)

// A notifier tells a service manager how the process is (sd_notify(3)). Empty
// means that nobody listens.
type notifier string

// newNotifier returns the notifier that an environment names.
func newNotifier(environ []string) notifier {
	for _, kv := range environ {
		if path, ok := strings.CutPrefix(kv, "NOTIFY_SOCKET="); ok {
			return notifier(path)
		}
	}
	return ""
}

// send sends one state. A path that begins with @ is in the abstract namespace.
func (n notifier) send(state string) error {
	if n == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: string(n), Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("node: notify: %w", err)
	}
	defer func() { _ = c.Close() }() // a datagram is sent or not
	if _, err := c.Write([]byte(state)); err != nil {
		return fmt.Errorf("node: notify: %w", err)
	}
	return nil
}
