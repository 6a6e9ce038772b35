package redistest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A SentinelSet is a master with a replica, and one sentinel that decides alone.
// After a failover Master and Replica name the processes as they were started,
// not their roles; see Current.
type SentinelSet struct {
	Name            string // of the monitored master
	Master, Replica *Server
	Sentinel        *Server
}

// StartSentinel starts a set and waits until the replica is in step and the
// sentinel knows both. The sentinel takes the master for dead after half a
// second without an answer.
func StartSentinel(t testing.TB, o Options) *SentinelSet {
	t.Helper()
	s := &SentinelSet{Name: "edge"}
	s.Master = start(t, o, "", "--repl-diskless-sync-delay", "0")
	s.Replica = start(t, o, "", "--repl-diskless-sync-delay", "0",
		"--replicaof", "127.0.0.1 "+strconv.Itoa(s.Master.port))
	s.Sentinel = start(t, Options{}, s.sentinelFile(t, o), "--sentinel")
	s.await("the replica to be in step", func() bool {
		return s.Replica.Info("replication", "master_link_status") == "up"
	})
	s.await("the sentinel to know the replica", func() bool {
		v := s.Sentinel.Do("SENTINEL", "REPLICAS", s.Name)
		list, _ := v.([]any)
		return len(list) == 1 && strings.Contains(fmt.Sprint(list...), "flags slave ")
	})
	return s
}

func (s *SentinelSet) sentinelFile(t testing.TB, o Options) string {
	t.Helper()
	text := fmt.Sprintf("sentinel monitor %s 127.0.0.1 %d 1\nsentinel down-after-milliseconds %s 500\n"+
		"sentinel failover-timeout %s 3000\n", s.Name, s.Master.port, s.Name, s.Name)
	if o.Password != "" {
		text += fmt.Sprintf("sentinel auth-pass %s %s\n", s.Name, o.Password)
	}
	path := filepath.Join(t.TempDir(), "sentinel.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatalf("redistest: %v", err)
	}
	return path
}

// URL returns the address of the set for the client: redis+sentinel://.
func (s *SentinelSet) URL() string {
	return "redis+sentinel://" + s.Master.opts.userinfo() + s.Sentinel.Addr() + "/" + s.Name + "/0"
}

// Current returns the server that the sentinel names as master now.
func (s *SentinelSet) Current() *Server {
	v, _ := s.Sentinel.Do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", s.Name).([]any)
	if len(v) == 2 && v[1] == strconv.Itoa(s.Replica.port) {
		return s.Replica
	}
	return s.Master
}

// Failover kills the current master, once the other server has all that was
// written to it, and waits until that is master and says so itself. It returns the
// new master.
func (s *SentinelSet) Failover() *Server {
	s.Master.t.Helper()
	old, heir := s.Current(), s.Replica
	if old == s.Replica {
		heir = s.Master
	}
	written := offset(old, "master_repl_offset")
	s.await("the replica to have all writes", func() bool { return offset(heir, "slave_repl_offset") >= written })
	old.Kill()
	s.await("a new master", func() bool {
		now := s.Current()
		return now != old && now.Info("replication", "role") == "master"
	})
	return s.Current()
}

// offset is how far a server's stream of writes has come.
func offset(s *Server, field string) int {
	n, _ := strconv.Atoi(s.Info("replication", field))
	return n
}

func (s *SentinelSet) await(what string, f func() bool) {
	t := s.Master.t
	t.Helper()
	if !poll(nil, f) {
		t.Fatalf("redistest: waited %v for %s\n%s", startLimit, what, s.Sentinel.Log())
	}
}

// A Cluster is three masters without replicas that share all slots.
type Cluster struct {
	Nodes []*Server
}

const slots = 16384

// StartCluster starts a cluster and waits until each node sees all slots
// served.
func StartCluster(t testing.TB, o Options) *Cluster {
	t.Helper()
	c := &Cluster{}
	for range 3 {
		c.Nodes = append(c.Nodes, start(t, o, "", "--cluster-enabled", "yes",
			"--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "2000"))
	}
	n := len(c.Nodes)
	for i, s := range c.Nodes {
		s.Do("CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(i*slots/n), strconv.Itoa((i+1)*slots/n-1))
		s.Do("CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
		if i > 0 {
			s.Do("CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(c.Nodes[0].port))
		}
	}
	c.AwaitReady()
	return c
}

// AwaitReady waits until each node knows all others and sees all slots served.
func (c *Cluster) AwaitReady() {
	t := c.Nodes[0].t
	t.Helper()
	for _, s := range c.Nodes {
		ready := poll(nil, func() bool {
			info := s.Do("CLUSTER", "INFO")
			return infoField(info, "cluster_state") == "ok" && infoField(info, "cluster_slots_ok") == strconv.Itoa(slots) &&
				infoField(info, "cluster_known_nodes") == strconv.Itoa(len(c.Nodes))
		})
		if !ready {
			t.Fatalf("redistest: cluster not ready after %v\n%s", startLimit, s.Log())
		}
	}
}

// URL returns the address of the cluster for the client: redis+cluster://.
func (c *Cluster) URL() string {
	var hosts []string
	for _, s := range c.Nodes {
		hosts = append(hosts, s.Addr())
	}
	return "redis+cluster://" + c.Nodes[0].opts.userinfo() + strings.Join(hosts, ",")
}
