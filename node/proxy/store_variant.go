package proxy

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/edgenode/edgenode/tiers"
	"github.com/edgenode/edgenode/tiers/item"
)

// An answer that varies is stored under the base key as long as it is alone, so
// that a request that selects it needs one look-up. When a second variant of the
// URL comes, both lie under keys of their own, and the base key holds their index.

// storeVariant stores the answer w, whose metadata is m, as the sole variant of its
// URL or as one of several. It reports whether it is there.
func (fl *flight) storeVariant(ctx context.Context, w *tiers.Write, m meta) bool {
	p := fl.p
	lock := p.indexLock(fl.r.key)
	lock.Lock()
	defer lock.Unlock()
	b := p.baseOf(ctx, fl.r.key, fl.r.writeTiers)
	defer b.hit.Release()
	other := !b.sole.none() && string(b.sole.soleHash()) != string(fl.hash[:])
	if !b.indexed && !other && fl.fitsBase(m, w) {
		w.Response = m.asSole(&fl.hash).b
		return fl.submit(ctx, w)
	}
	w.Key = variantKey(nil, fl.r.key, fl.hash[:])
	if !fl.submit(ctx, w) {
		return false
	}
	x, now := b.index, p.o.Now()
	if other {
		fl.moveSole(ctx, &x, &b, now)
	}
	e := entry{hash: fl.hash, lang: fl.lang, stored: now, expires: now + w.TTL.Milliseconds()}
	x.add(strings.Clone(fl.spec), e, fl.r.site.VariantsMax, now, p.recent.used)
	fl.writeIndex(ctx, &x, now)
	return true
}

// fitsBase reports whether the answer may lie under the base key: it varies, no
// language of its own selects it, and to move it costs no more than a chunk.
func (fl *flight) fitsBase(m meta, w *tiers.Write) bool {
	return fl.spec != "" && fl.lang == [hashLen]byte{} && m.flags()&metaParted == 0 && int64(len(w.Content)) <= fl.r.site.ChunkBytes
}

// moveSole gives the variant under the base key a key of its own, and lists it in x.
// It keeps its version, so that what covers it there covers it here. One that was
// purged meanwhile, even softly, is gone.
func (fl *flight) moveSole(ctx context.Context, x *index, b *base, now int64) {
	v, m := b.hit.View, b.sole
	w := tiers.Write{
		Key: variantKey(nil, fl.r.key, m.soleHash()), Content: v.Content(), MIME: v.MIME(), Tags: tagsOf(v), Response: m.asListed().b,
		Tiers: v.Tiers(), TTL: time.Duration(v.ExpiresAt()-now) * time.Millisecond,
		L1TTL: time.Duration(v.L1TTL()) * time.Millisecond, L2TTL: time.Duration(v.L2TTL()) * time.Millisecond,
		Durability: item.DurabilityMemory, Version: v.Version(),
	}
	if w.TTL <= 0 || b.hit.Stale {
		return
	}
	if _, err := fl.p.o.Engine.Submit(ctx, &w); err != nil && !errors.Is(err, tiers.ErrSuperseded) {
		return
	}
	e := entry{hash: [hashLen]byte(m.soleHash()), stored: v.Version().UnixMilli(), expires: v.ExpiresAt()}
	x.add(strings.Clone(m.vary()), e, fl.r.site.VariantsMax, now, fl.p.recent.used)
}

// writeIndex stores x under the base key.
func (fl *flight) writeIndex(ctx context.Context, x *index, now int64) {
	w := tiers.Write{
		Key: fl.r.key, Tags: indexTags(fl.r.tags), Response: appendIndex(nil, x), Tiers: fl.r.writeTiers, MIME: "application/octet-stream",
		TTL: time.Duration(x.expires-now) * time.Millisecond, Durability: item.DurabilityMemory, Version: fl.p.o.Engine.Stamp(),
	}
	if _, err := fl.p.o.Engine.Submit(ctx, &w); err != nil {
		fl.notStored(err)
	}
}

// indexTags keeps the implicit tags of the request: an index is not gone because
// one of its variants is.
func indexTags(tags []string) []string {
	return slices.DeleteFunc(slices.Clone(tags), func(t string) bool { return t[0] != 1 })
}

// indexLock returns what guards changes of a base key between index and variant.
func (p *Proxy) indexLock(key item.Key) *sync.Mutex {
	return &p.indexLocks[p.hashOf(string(key))%uint64(len(p.indexLocks))]
}

// A base is what a base key holds for answers that vary: nothing, an index, or
// the sole variant, which is a part of hit. Hit is to be released.
type base struct {
	index   index
	indexed bool
	sole    meta // if there is one
	hit     tiers.Hit
}

// baseOf returns what is under a base key in those tiers.
func (p *Proxy) baseOf(ctx context.Context, key item.Key, where item.Tiers) (b base) {
	hit, ok, err := p.o.Engine.Get(ctx, key, tiers.ReadOptions{Tiers: where})
	if err != nil || !ok {
		return base{}
	}
	if x, ok := parseIndex(hit.View.Response()); ok {
		b.index, b.indexed = *x.decode(), true
	} else if m, ok := p.metaOf(hit.View.Response()); ok && m.sole() {
		b.sole = m
	}
	b.hit = hit
	return b
}
