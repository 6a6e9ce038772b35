package refcache

import (
	"regexp"
	"strings"
	"time"
)

// The three forms of a date (RFC 9110 §5.6.7), in any case.
var (
	imfDate = regexp.MustCompile(`(?i)^(mon|tue|wed|thu|fri|sat|sun), (\d\d) (jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec) (\d{4}) (\d\d):(\d\d):(\d\d) gmt$`)
	oldDate = regexp.MustCompile(`(?i)^(mon|tues|wednes|thurs|fri|satur|sun)day, (\d\d)-(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)-(\d\d) (\d\d):(\d\d):(\d\d) gmt$`)
	cDate   = regexp.MustCompile(`(?i)^(mon|tue|wed|thu|fri|sat|sun) (jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec) ( \d|\d\d) (\d\d):(\d\d):(\d\d) (\d{4})$`)
)

// parseDate reads a date. now settles the century of the form with two digits.
func parseDate(s string, now time.Time) (time.Time, bool) {
	s = strings.Trim(s, " \t")
	if m := imfDate.FindStringSubmatch(s); m != nil {
		return build(m[4], m[3], m[2], m[5:8])
	}
	if m := cDate.FindStringSubmatch(s); m != nil {
		return build(m[7], m[2], m[3], m[4:7])
	}
	m := oldDate.FindStringSubmatch(s)
	if m == nil {
		return time.Time{}, false
	}
	century := now.UTC().Year() / 100
	t, ok := build(digits(century)+m[4], m[3], m[2], m[5:8])
	if ok && t.After(now.AddDate(50, 0, 0)) {
		return build(digits(century-1)+m[4], m[3], m[2], m[5:8])
	}
	return t, ok
}

func digits(n int) string { return string([]byte{'0' + byte(n/10), '0' + byte(n%10)}) }

func build(year, month, day string, clock []string) (time.Time, bool) {
	month = strings.ToUpper(month[:1]) + strings.ToLower(month[1:])
	text := year + " " + month + " " + strings.ReplaceAll(day, " ", "0") + " " + strings.Join(clock, ":")
	t, err := time.Parse("2006 Jan 02 15:04:05", text)
	return t, err == nil
}
