package node

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/edgenode/edgenode/node/admin"
	"github.com/edgenode/edgenode/node/problem"
	"github.com/edgenode/edgenode/tiers/item"
)

const (
	topDefault = 20
	topMax     = 64
)

// A topPage is what /top shows.
type topPage struct {
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
	Every uint64    `json:"one_hit_counted_of"`
	Keys  []topKey  `json:"keys"` // the hottest first
}

type topKey struct {
	Kind  string `json:"kind"` // item, site, variants, chunk or internal
	Key   string `json:"key"`  // an id, or what the proxy made of a request
	Cut   bool   `json:"cut,omitempty"`
	Hits  uint64 `json:"hits"`
	Error uint64 `json:"at_most_too_high_by,omitempty"`
}

// topPage answers GET /top with the keys that were hit most.
func (n *Node) topPage(x admin.Exchange) {
	count, p := topCount(string(x.Target()))
	if p != nil {
		if err := problem.Write(x, p); err != nil {
			n.log.Debug("an answer was not taken", "error", err)
		}
		return
	}
	hot := n.engine.Hottest(count)
	page := topPage{From: time.UnixMilli(hot.From).UTC(), To: time.UnixMilli(hot.To).UTC(), Every: hot.Every, Keys: []topKey{}}
	for _, k := range hot.Keys {
		key := item.Key(k.Key)
		page.Keys = append(page.Keys, topKey{Kind: kindOf(key), Key: key.ID(), Cut: !k.Whole, Hits: k.Hits, Error: k.Error})
	}
	n.admin.JSON(x, page)
}

// topCount reads ?n= of target.
func topCount(target string) (int, *problem.Problem) {
	_, raw, _ := strings.Cut(target, "?")
	query, err := url.ParseQuery(raw)
	if err != nil {
		return 0, problem.New(problem.BadParameter, "the query cannot be read")
	}
	for name, values := range query {
		if name != "n" {
			return 0, problem.Newf(problem.UnknownParameter, "%q is not known here; n is", name)
		}
		if len(values) != 1 {
			return 0, problem.New(problem.RepeatedParameter, "give n once")
		}
	}
	if !query.Has("n") {
		return topDefault, nil
	}
	count, err := strconv.Atoi(query.Get("n"))
	if err != nil || count < 1 || count > topMax {
		return 0, problem.Newf(problem.BadParameter, "n is %q; it is a number from 1 to %d", query.Get("n"), topMax)
	}
	return count, nil
}

func kindOf(key item.Key) string {
	switch key.Namespace() {
	case item.NamespaceItem:
		return "item"
	case item.NamespaceSite:
		return "site"
	case item.NamespaceVariants:
		return "variants"
	case item.NamespaceChunk:
		return "chunk"
	default:
		return "internal"
	}
}
