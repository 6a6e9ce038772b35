package l2

import (
	"crypto/sha1"
	"encoding/hex"
)

// A script is a Lua script with the name under which servers keep it.
type script struct{ source, sha string }

func newScript(source string) script {
	sum := sha1.Sum([]byte(source))
	return script{source, hex.EncodeToString(sum[:])}
}

// Answers of the scripts.
const (
	answerLost    = 0 // something newer is there
	answerWon     = 1 // done; by drop: what was there was removed
	answerSame    = 2 // put: the same write is there; drop: nothing was there
	answerForeign = 3 // put: what is there has an unknown form; if it was older it is gone
	answerNew     = 4 // put: done, and nothing was there
)

// All scripts compare bytes by number: Lua's < on strings follows the locale,
// and its numbers hold 53 bits. Registers are the bytes 2 to 25 of a value; in
// every format, so that an unknown one can be ordered and dropped too.
//
// putScript: KEYS[1], value, lifetime in ms. The content hash is at byte 98 of a
// value of format 1, at 58 of one of format 2 if bit 1 of byte 38 is set; a fence
// has none, which counts as zeros. What is of a known format but too short to have
// registers is damaged and overwritten. A server out of memory
// refuses new items only: what is older never survives for want of memory, and
// tombstones (kind, byte 35) are always let in. After a DEL a script may write.
const putScript = `
local cur, new = redis.call('GETRANGE', KEYS[1], 0, 128), ARGV[1]
if cur ~= '' then
  local byte = string.byte
  local form = byte(cur, 1)
  local known = form == 1 or form == 2
  if #cur >= 25 then
    local i = 2
    while i <= 25 and byte(cur, i) == byte(new, i) do i = i + 1 end
    local a, b = byte(cur, i) or 0, byte(new, i) or 0
    if i > 25 then
      local function hash(v)
        if byte(v, 1) == 1 then return 98 end
        if math.floor((byte(v, 38) or 0) / 2) % 2 == 1 then return 58 end
        return 1000
      end
      local c, n = hash(cur), hash(new)
      i = 0
      repeat
        a, b = c < 1000 and byte(cur, c + i) or 0, n < 1000 and byte(new, n + i) or 0
        i = i + 1
      until i == 32 or a ~= b
      if a == b and #cur >= (form == 1 and 129 or 59) then return known and 2 or 3 end
    end
    if a > b then return known and 0 or 3 end
    if not known then
      redis.call('DEL', KEYS[1])
      return 3
    end
  elseif not known then
    return 3
  end
end
local r = redis.pcall('SET', KEYS[1], new, 'PX', ARGV[2])
if r.err then
  if cur == '' and string.byte(new, 35) ~= 2 then return r end
  redis.call('DEL', KEYS[1])
  redis.call('SET', KEYS[1], new, 'PX', ARGV[2])
end
return cur == '' and 4 or 1`

// dropScript: KEYS[1], bound, fence, its lifetime in ms. What is below the bound
// is removed; then, or if nothing was there, the fence is left, which keeps out
// older writes that are still under way. The DEL is for a server out of memory.
const dropScript = `
local cur = redis.call('GETRANGE', KEYS[1], 0, 24)
if #cur == 25 then
  local bound, byte, i = ARGV[1], string.byte, 1
  while i <= 24 and byte(cur, i + 1) == byte(bound, i) do i = i + 1 end
  if i > 24 or byte(cur, i + 1) > byte(bound, i) then return 0 end
end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return cur == '' and 2 or 1`

// evictScript: KEYS[1]. Removes a live item of a known format, nothing else: byte 35
// is the kind of its record.
const evictScript = `
local head = redis.call('GETRANGE', KEYS[1], 0, 34)
local form = string.byte(head, 1)
if #head == 35 and (form == 1 or form == 2) and string.byte(head, 35) == 1 then
  return redis.call('UNLINK', KEYS[1])
end
return 0`
