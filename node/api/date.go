package api

import (
	"net/http"
	"strconv"
)

// A date writes times in the form of HTTP. It keeps the day of the last one:
// times that are written one after the other are of few days. The zero value is
// ready.
type date struct {
	day  int64 // since 1970-01-01
	text [dateLen]byte
}

const dateLen = len("Thu, 01 Jan 1970 00:00:00 GMT")

// put writes the time ms (Unix milliseconds, from year 1 to 9999) as an
// IMF-fixdate (RFC 9110 section 5.6.7) to dst, of at least dateLen bytes.
func (d *date) put(dst []byte, ms int64) {
	seconds := floorDiv(ms, 1000)
	day := floorDiv(seconds, 86400)
	if day != d.day || d.text[0] == 0 {
		d.day, d.text = day, dayText(day)
	}
	rest := int(seconds - day*86400)
	dst = dst[:dateLen]
	copy(dst, d.text[:])
	put2(dst[17:], rest/3600)
	put2(dst[20:], rest/60%60)
	put2(dst[23:], rest%60)
}

// dayText returns the first moment of a day. It is computed as in Hinnant,
// "chrono-Compatible Low-Level Date Algorithms".
func dayText(days int64) [dateLen]byte {
	const names = "ThuFriSatSunMonTueWed" // 1970-01-01 was a Thursday
	const months = "JanFebMarAprMayJunJulAugSepOctNovDec"
	year, month, day := civil(days)
	weekday := int(((days % 7) + 7) % 7)

	text := [dateLen]byte{3: ',', 4: ' ', 7: ' ', 11: ' ', 16: ' ', 19: ':', 22: ':', 25: ' ', 26: 'G', 27: 'M', 28: 'T'}
	copy(text[0:3], names[3*weekday:])
	put2(text[5:], day)
	copy(text[8:11], months[3*month-3:])
	put2(text[12:], year/100)
	put2(text[14:], year%100)
	return text
}

// put2 writes n, from 0 to 99, as two digits.
func put2(dst []byte, n int) { dst[0], dst[1] = byte('0'+n/10), byte('0'+n%10) }

// civil returns the proleptic Gregorian date of a day counted from 1970-01-01.
func civil(days int64) (year, month, day int) {
	z := days + 719468
	era := floorDiv(z, 146097)
	doe := z - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	day = int(doy - (153*mp+2)/5 + 1)
	month = int(mp + 3)
	if month > 12 {
		month -= 12
	}
	year = int(yoe + era*400)
	if month <= 2 {
		year++
	}
	return year, month, day
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// parseHTTPDate returns the time of an HTTP date in Unix seconds.
func parseHTTPDate(b []byte) (seconds int64, ok bool) {
	t, err := http.ParseTime(string(b))
	if err != nil {
		return 0, false
	}
	return t.Unix(), true
}

// appendInt appends n in decimal.
func appendInt(dst []byte, n int64) []byte { return strconv.AppendInt(dst, n, 10) }
