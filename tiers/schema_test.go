package tiers_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
	"github.com/edgenode/edgenode/tiers/l3"
)

// A prefix gets a table and loses it again: reads, lists and writes never know.
func TestMapPrefix(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir, func(o *tiers.Options) { o.Durability = item.DurabilityJournal })
	var all []string
	for i := range 1200 {
		all = append(all, fmt.Sprintf("shop/%04d", i))
		put(t, e, all[i], "x")
	}
	put(t, e, "other", "x")
	if err := e.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, e, "shop/0007", "pending")
	check := func(mappings ...tiers.TableMapping) {
		t.Helper()
		list, err := e.Mappings(t.Context())
		for i := range list {
			list[i].Version = 0
		}
		if err != nil || !slices.Equal(list, mappings) {
			t.Errorf("mappings %+v, %v, want %+v", list, err, mappings)
		}
		if err := e.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := listed(t, e, "shop/"); !slices.Equal(got, all) {
			t.Errorf("%d items are listed, want %d", len(got), len(all))
		}
		want(t, e, "shop/0007", "pending")
	}
	if err := e.MapPrefix(t.Context(), "shop/", "shop"); err != nil {
		t.Fatal(err)
	}
	shop := tiers.TableMapping{Prefix: "shop/", Table: "shop", Name: "items__shop"}
	check(shop)
	f := func(err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	f(e.MapPrefix(t.Context(), "shop/", "shop"), nil)
	f(e.MapPrefix(t.Context(), "shop/", "b"), l3.ErrMapped)
	f(e.MapPrefix(t.Context(), "b", "B"), tiers.ErrInvalid)
	f(e.MapPrefix(t.Context(), "", "b"), tiers.ErrInvalid)
	f(e.Unmap(t.Context(), "b"), l3.ErrNotMapped)
	cut, cancel := context.WithCancel(t.Context())
	cancel()
	f(e.Unmap(cut, "shop/"), context.Canceled)
	f(e.Unmap(t.Context(), "shop/"), nil)
	check()
	if err := e.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	f(e.MapPrefix(t.Context(), "b", "b"), tiers.ErrClosed)

	e = open(t, dir, nil)
	e.KeepTables([]tiers.TableMapping{{Prefix: "shop/", Table: "shop"}, {Prefix: "none"}, {Prefix: "bad", Table: "B"}})
	for {
		list, err := e.Mappings(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 1 && !list[0].Moving {
			break
		}
	}
	check(shop)
}

// listed returns the ids that begin with prefix.
func listed(t *testing.T, e *tiers.Engine, prefix string) (ids []string) {
	t.Helper()
	q := tiers.Query{Prefix: prefix, Limit: 1000}
	for {
		var err error
		q.Cursor, err = e.List(t.Context(), q, func(v item.View) error {
			ids = append(ids, v.Key().ID())
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if q.Cursor == "" {
			return ids
		}
	}
}
