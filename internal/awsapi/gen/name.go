package main

import "strings"

// fieldName turns a member name into a Go name: jobTemplateArn becomes
// JobTemplateARN.
func fieldName(member string) string {
	var out strings.Builder
	for _, word := range camelWords(member) {
		switch word = strings.ToUpper(word[:1]) + word[1:]; word {
		case "Id", "Arn", "Url":
			word = strings.ToUpper(word)
		}
		out.WriteString(word)
	}
	return out.String()
}

// camelWords splits at every step from lower to upper case.
func camelWords(s string) []string {
	var words []string
	start := 0
	for i := 1; i < len(s); i++ {
		if isUpper(s[i]) && !isUpper(s[i-1]) {
			words = append(words, s[start:i])
			start = i
		}
	}
	return append(words, s[start:])
}

func isUpper(c byte) bool { return c >= 'A' && c <= 'Z' }

// constName names an enum value: JobStatus, IN_PROGRESS gives
// JobStatusInProgress.
func constName(shape, value string) string {
	out := shape
	for _, word := range strings.FieldsFunc(value, func(r rune) bool { return r == '_' || r == '-' }) {
		out += strings.ToUpper(word[:1]) + strings.ToLower(word[1:])
	}
	return out
}

func ruleName(shape string) string { return "rule" + fieldName(shape) }
