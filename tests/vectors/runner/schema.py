"""As much of JSON Schema as schema.json uses; whatever else a schema says is an error, so that nothing goes unchecked."""

import re

KNOWN = {"$schema", "$id", "$defs", "$ref", "title", "description", "type", "enum", "const", "properties", "required",
         "additionalProperties", "items", "prefixItems", "minItems", "maxItems", "minLength", "pattern", "oneOf", "minimum",
         "maximum"}
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}


def is_type(value, word):
    """Whether a value is of the type that a schema names."""
    if word == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, TYPES[word])


def errors(value, schema, root, at="$"):
    """What is wrong with a value, as texts."""
    unknown = set(schema) - KNOWN
    if unknown:
        return ["%s: the schema says %s, which this reader does not know" % (at, ", ".join(sorted(unknown)))]
    if "$ref" in schema:
        return errors(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root, at)
    found = []
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    if types and not any(is_type(value, word) for word in types):
        return ["%s: %r is not %s" % (at, value, " or ".join(types))]
    if "const" in schema and value != schema["const"]:
        found.append("%s: %r is not %r" % (at, value, schema["const"]))
    if "enum" in schema and value not in schema["enum"]:
        found.append("%s: %r is none of %r" % (at, value, schema["enum"]))
    if "oneOf" in schema:
        each = [errors(value, one, root, at) for one in schema["oneOf"]]
        if sum(not wrong for wrong in each) != 1:
            found += min(each, key=len) or ["%s: more than one form fits" % at]
    if isinstance(value, dict):
        found += object_errors(value, schema, root, at)
    elif isinstance(value, list):
        first = schema.get("prefixItems", [])
        for number, one in enumerate(value):
            rule = first[number] if number < len(first) else schema.get("items", {})
            found += errors(one, rule, root, "%s[%d]" % (at, number))
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            found.append("%s: %d items" % (at, len(value)))
    elif isinstance(value, str):
        if len(value) < schema.get("minLength", 0) or not re.search(schema.get("pattern", ""), value):
            found.append("%s: %r does not match" % (at, value))
    elif isinstance(value, int) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        found.append("%s: %d is out of range" % (at, value))
    return found


def object_errors(value, schema, root, at):
    """The same of an object's members."""
    found = ["%s: %s is missing" % (at, name) for name in schema.get("required", []) if name not in value]
    known, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    for name, one in value.items():
        if name in known:
            found += errors(one, known[name], root, "%s.%s" % (at, name))
        elif others is False:
            found.append("%s: %s is not known" % (at, name))
        elif isinstance(others, dict):
            found += errors(one, others, root, "%s.%s" % (at, name))
    return found
