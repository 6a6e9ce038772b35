package proxy

import (
	"strings"
	"time"
)

// parseDate reads a date in one of the three forms of RFC 9110 §5.6.7, names in
// any case, and returns Unix milliseconds. Nothing else is a date: no other
// zone than GMT, no missing or extra spaces, no day that the month does not
// have. nowMilli places two-digit years: more than 50 years ahead is the past.
func parseDate(s string, nowMilli int64) (int64, bool) {
	comma := strings.IndexByte(s, ',')
	var f dateFields
	var ok bool
	switch {
	case comma == 3:
		f, ok = imfFixdate(s)
	case comma > 3:
		f, ok = rfc850Date(s, comma, nowMilli)
	default:
		f, ok = asctimeDate(s)
	}
	if !ok || !f.valid() {
		return 0, false
	}
	return time.Date(f.year, time.Month(f.month), f.day, f.hour, f.minute, f.second, 0, time.UTC).UnixMilli(), true
}

type dateFields struct{ year, month, day, hour, minute, second int }

func (f dateFields) valid() bool {
	if f.year < 1 || f.month < 1 || f.day < 1 || f.hour > 23 || f.minute > 59 || f.second > 60 {
		return false
	}
	last := time.Date(f.year, time.Month(f.month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
	return f.day <= last
}

const (
	dayNames   = "mon tue wed thu fri sat sun "
	monthNames = "jan feb mar apr may jun jul aug sep oct nov dec "
)

// imfFixdate reads "Sun, 06 Nov 1994 08:49:37 GMT".
func imfFixdate(s string) (f dateFields, ok bool) {
	if len(s) != 29 || nameIndex(dayNames, s[:3]) == 0 || s[3:5] != ", " || s[7] != ' ' || s[11] != ' ' ||
		s[16] != ' ' || !strings.EqualFold(s[25:], " GMT") {
		return f, false
	}
	f.month = nameIndex(monthNames, s[8:11])
	ok = digits(&f.day, s[5:7]) && digits(&f.year, s[12:16]) && f.clock(s[17:25])
	return f, ok
}

var longDays = []string{"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}

// rfc850Date reads "Sunday, 06-Nov-94 08:49:37 GMT".
func rfc850Date(s string, comma int, nowMilli int64) (f dateFields, ok bool) {
	known := false
	for _, day := range longDays {
		known = known || strings.EqualFold(s[:comma], day)
	}
	s = s[comma:]
	if !known || len(s) != 24 || s[:2] != ", " || s[4] != '-' || s[8] != '-' || s[11] != ' ' || !strings.EqualFold(s[20:], " GMT") {
		return f, false
	}
	f.month = nameIndex(monthNames, s[5:8])
	ok = digits(&f.day, s[2:4]) && digits(&f.year, s[9:11]) && f.clock(s[12:20])
	this := time.UnixMilli(nowMilli).UTC().Year()
	if f.year += this - this%100; f.year > this+50 {
		f.year -= 100
	}
	return f, ok
}

// asctimeDate reads "Sun Nov  6 08:49:37 1994".
func asctimeDate(s string) (f dateFields, ok bool) {
	if len(s) != 24 || nameIndex(dayNames, s[:3]) == 0 || s[3] != ' ' || s[7] != ' ' || s[10] != ' ' || s[19] != ' ' {
		return f, false
	}
	day := s[8:10]
	if day[0] == ' ' {
		day = day[1:]
	}
	f.month = nameIndex(monthNames, s[4:7])
	ok = digits(&f.day, day) && digits(&f.year, s[20:]) && f.clock(s[11:19])
	return f, ok
}

// nameIndex returns the place of a three-letter name in a list, from 1; 0 if it
// is not there.
func nameIndex(list, name string) int {
	for i := 0; i < len(list); i += 4 {
		if strings.EqualFold(list[i:i+3], name) {
			return i/4 + 1
		}
	}
	return 0
}

// clock reads "08:49:37".
func (f *dateFields) clock(s string) bool {
	return s[2] == ':' && s[5] == ':' && digits(&f.hour, s[:2]) && digits(&f.minute, s[3:5]) && digits(&f.second, s[6:])
}

func digits(to *int, s string) bool {
	*to = 0
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
		*to = *to*10 + int(s[i]-'0')
	}
	return len(s) > 0
}

const (
	shownDays   = "Sun, Mon, Tue, Wed, Thu, Fri, Sat, "
	shownMonths = " Mar  Apr  May  Jun  Jul  Aug  Sep  Oct  Nov  Dec  Jan  Feb "
)

// appendDate appends a time in Unix seconds as an IMF-fixdate (RFC 9110 §5.6.7),
// without a time.Time, because hits do it. Years begin in March here, so that a leap
// day is the last of its year; day 0 is the first of March of the year 1600, from
// which on four centuries have the same number of days, and a leap day each four
// years but the last of a century.
func appendDate(dst []byte, unix uint32) []byte {
	const (
		era      = 146_097 // days of four centuries
		century  = 36_524
		olympiad = 1461
		epoch    = 135_080 // 1 January 1970
	)
	day, second := unix/86_400, unix%86_400
	weekday := (day + 4) % 7
	day += epoch
	year := 1600 + day/era*400
	day %= era
	n := min(day/century, 3)
	year, day = year+100*n, day-n*century
	n = day / olympiad
	year, day = year+4*n, day-n*olympiad
	n = min(day/365, 3)
	year, day = year+n, day-n*365
	month := (5*day + 2) / 153 // 153 days are five months, from March on
	day -= (153*month + 2) / 5
	if month >= 10 {
		year++
	}
	dst = append(dst, "ddd, 00 mmm 0000 00:00:00 GMT"...)
	b := (*[29]byte)(dst[len(dst)-29:])
	copy(b[:5], shownDays[5*weekday:])
	copy(b[7:12], shownMonths[5*month:])
	b[5], b[6] = twoDigits(day + 1)
	b[12], b[13] = twoDigits(year / 100)
	b[14], b[15] = twoDigits(year % 100)
	setClock(b, second)
	return dst
}

// setClock writes the second of a day into a date.
func setClock(b *[29]byte, second uint32) {
	b[17], b[18] = twoDigits(second / 3600)
	b[20], b[21] = twoDigits(second / 60 % 60)
	b[23], b[24] = twoDigits(second % 60)
}

// A shownDate is the date that was appended last: the next one is often of the same
// day. The zero value is none.
type shownDate struct {
	unix uint32
	text [29]byte
}

// append is appendDate.
func (d *shownDate) append(dst []byte, unix uint32) []byte {
	switch {
	case d.text[0] == 0 || d.unix/86_400 != unix/86_400:
		appendDate(d.text[:0], unix)
	case d.unix != unix:
		setClock(&d.text, unix%86_400)
	}
	d.unix = unix
	return append(dst, d.text[:]...)
}

func twoDigits(n uint32) (tens, ones byte) { return byte('0' + n/10), byte('0' + n%10) }
