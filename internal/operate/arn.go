package operate

import "strings"

// nameOf is what an ARN ends with.
func nameOf(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }
