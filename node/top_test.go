package node_test

import (
	"encoding/json"
	"testing"
)

// TestTop asks a running node for its hot keys.
func TestTop(t *testing.T) {
	n := inProcess(t, writeConfig(t, t.TempDir(), addresses))
	n.put("hot", "content")
	n.put("cold", "content")
	for range 9 {
		ask(t, "GET", n.data+"/v1/items/hot", "").want(t, 200)
	}
	ask(t, "GET", n.data+"/v1/items/cold", "").want(t, 200)
	var got struct {
		Keys []struct {
			Kind, Key string
			Hits      int
		}
	}
	a := ask(t, "GET", n.admin+"/top?n=2", "").want(t, 200)
	if err := json.Unmarshal([]byte(a.body), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Keys) != 2 || got.Keys[0].Kind != "item" || got.Keys[0].Key != "hot" || got.Keys[0].Hits < 9 || got.Keys[1].Key != "cold" {
		t.Errorf("%s", a.body)
	}
	for _, query := range []string{"?n=0", "?n=65", "?n=x", "?n=", "?m=1", "?n=1&n=2", "?n=%zz"} {
		ask(t, "GET", n.admin+"/top"+query, "").want(t, 400)
	}
	ask(t, "POST", n.admin+"/top", "").want(t, 405)
}
