package store

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/edm"
	"github.com/portcullis-access/portcullis/pkg/localazure/tables/internal/tableerr"
)

// Limits of the data model (REST reference, "Understanding the Table service
// data model", and "Performing entity group transactions").
const (
	maxKeyLength     = 1024 // UTF-16 code units
	maxProperties    = 252  // besides the three system properties
	maxPropertyName  = 255  // UTF-16 code units
	maxPropertyBytes = 64 << 10
	maxEntityBytes   = 1 << 20
	maxBatch         = 100
)

var tableName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]*$`)

// checkTableName applies the naming rules: 3 to 63 letters and digits, a letter
// first, and not the reserved word "tables".
func checkTableName(name string) error {
	switch {
	case len(name) < 3 || len(name) > 63:
		return tableerr.New(tableerr.OutOfRangeInput, "The specified resource name length is not within the permissible limits.")
	case !tableName.MatchString(name):
		return tableerr.New(tableerr.InvalidResourceName, "The specifed resource name contains invalid characters.")
	case strings.EqualFold(name, "tables"):
		return tableerr.BadInput("the table name is reserved")
	}
	return nil
}

func checkKey(k Key) error {
	if err := checkKeyPart(edm.PartitionKey, k.Partition); err != nil {
		return err
	}
	return checkKeyPart(edm.RowKey, k.Row)
}

func checkKeyPart(name, value string) error {
	if edm.UTF16Len(value) > maxKeyLength {
		return tableerr.New(tableerr.KeyValueTooLarge, "The value of %s exceeds the maximum allowed length (1,024 characters).", name)
	}
	bad := func(r rune) bool { return strings.ContainsRune(`/\#?`, r) || unicode.IsControl(r) }
	if !utf8.ValidString(value) || strings.ContainsFunc(value, bad) {
		return tableerr.New(tableerr.OutOfRangeInput, "The '%s' parameter of value '%s' is out of range.", name, strings.ToValidUTF8(value, "\uFFFD"))
	}
	return nil
}

// checkEntity applies the limits to what would be stored.
func checkEntity(e *Entity) error {
	if len(e.Properties) > maxProperties {
		return tableerr.New(tableerr.TooManyProperties, "The entity contains more properties than allowed. Each entity can include up to 252 properties to store data. Each entity also has 3 system properties.")
	}
	size := 4 + 2*(edm.UTF16Len(e.Key.Partition)+edm.UTF16Len(e.Key.Row))
	for _, name := range slices.Sorted(maps.Keys(e.Properties)) {
		v := e.Properties[name]
		if err := checkPropertyName(name); err != nil {
			return err
		}
		if v.ContentSize() > maxPropertyBytes {
			return tableerr.New(tableerr.PropertyValueTooLarge, "The property value exceeds the maximum allowed size (64KB). If the property value is a string, it is UTF-16 encoded and the maximum number of characters should be 32K or less.")
		}
		size += 8 + 2*edm.UTF16Len(name) + v.Size()
	}
	if size > maxEntityBytes {
		return tableerr.New(tableerr.EntityTooLarge, "The entity is larger than the maximum allowed size (1MB).")
	}
	return nil
}

// checkPropertyName applies the rules of C# identifiers, which the data model
// refers to.
func checkPropertyName(name string) error {
	if edm.UTF16Len(name) > maxPropertyName {
		return tableerr.New(tableerr.PropertyNameTooLong, "The property name exceeds the maximum allowed length (255).")
	}
	for i, r := range name {
		start := r == '_' || unicode.IsLetter(r) || unicode.Is(unicode.Nl, r)
		if start || i > 0 && unicode.In(r, unicode.Nd, unicode.Mn, unicode.Mc, unicode.Pc, unicode.Cf) {
			continue
		}
		return tableerr.New(tableerr.PropertyNameInvalid, "The property name is invalid.")
	}
	if name == "" {
		return tableerr.New(tableerr.PropertyNameInvalid, "The property name is invalid.")
	}
	return nil
}
