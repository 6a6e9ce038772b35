package item_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/edgenode/edgenode/tiers/item"
)

// benchItem and benchSite are what 1 KiB takes as an item and as a stored answer.
func benchItem() item.Item {
	it := item.Item{
		Kind: item.KindPut, Tiers: item.AllTiers, Durability: item.DurabilityJournal, Key: item.AppendKey(nil, item.NamespaceItem, "bench/item/000001234"),
		Version: 9 << 32, ContentVersion: 9 << 32, MetadataVersion: 9 << 32, UpdatedAt: 9 << 16, MIME: "application/octet-stream",
		HomeInstance: "01890a5d-ac96-774b-bcce-b302099a8057", Content: bytes.Repeat([]byte("c"), 1024),
	}
	it.Seal()
	return it
}

func benchSite() item.Item {
	url := "http://shop.example/bench/item/000001234"
	it := item.Item{
		Kind: item.KindPut, Tiers: item.L1 | item.L2, Durability: item.DurabilityMemory, Key: item.AppendKey(nil, item.NamespaceSite, "shop\x00"+url),
		Version: 9 << 32, ContentVersion: 9 << 32, MetadataVersion: 9 << 32, UpdatedAt: 9 << 16, ExpiresAt: 10 << 16, MIME: "text/html; charset=utf-8",
		Tags: []string{"\x01u:" + url, "\x01h:shop.example"}, Response: []byte(strings.Repeat("r", 300)), Content: bytes.Repeat([]byte("c"), 1024),
	}
	it.Seal()
	return it
}

// BenchmarkView is what a hit reads of a record.
func BenchmarkView(b *testing.B) {
	for name, it := range map[string]item.Item{"item": benchItem(), "site": benchSite()} {
		v, key := item.View(it.AppendTo(nil)), it.Key
		b.Run(name, func(b *testing.B) {
			n := 0
			for b.Loop() {
				if !bytes.Equal(v.Key(), key) || v.Kind() != item.KindPut || v.Expired(8<<16) || v.Version() != v.ContentVersion() {
					b.Fatal("wrong view")
				}
				n += len(v.Content()) + len(v.Response()) + len(v.MIME()) + int(v.ETag()[0]) + int(v.Flags())
			}
			b.ReportMetric(float64(len(v)), "B/record")
		})
	}
}

func BenchmarkAppendTo(b *testing.B) {
	for name, it := range map[string]item.Item{"item": benchItem(), "site": benchSite()} {
		b.Run(name, func(b *testing.B) {
			dst := make([]byte, 0, 4096)
			for b.Loop() {
				if n := it.EncodedLen(); n != len(it.AppendTo(dst)) {
					b.Fatal(n)
				}
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	for name, it := range map[string]item.Item{"item": benchItem(), "site": benchSite()} {
		record := it.AppendTo(nil)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := item.Parse(record); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkTags(b *testing.B) {
	it := benchSite()
	v := item.View(it.AppendTo(nil))
	for b.Loop() {
		n := 0
		for tag := range v.Tags {
			n += len(tag)
		}
		if n == 0 {
			b.Fatal("no tags")
		}
	}
}
