// A form made of a task's signature, and what is typed into it as arguments.

import { h } from "./dom.js";
import { field } from "./ui.js";

const TEXT = new Set(["str", "str | None", "EmailStr"]);
const NUMBER = new Set(["int", "float", "int | None", "float | None", "int | float"]);

/** The fields; `values` (`{args, kwargs}`) fill them as a call of the task would. */
export function form(parameters, values, countdown) {
  const known = values?.args ? assigned(parameters, values) : new Map();
  const fields = parameters.map((each) => made(each, known.get(each.name)));
  const plain = parameters.length ? null : raw(values);
  const node = [fields.map((each) => each.node), plain?.node, field("Countdown in seconds", countdown)];
  return { fields, plain, node };
}

/** Positional and named arguments; throws what is wrong with them. */
export function read({ fields, plain }) {
  if (plain) return { args: json("args", plain.args.value), kwargs: json("kwargs", plain.kwargs.value) };
  const args = [];
  const kwargs = {};
  for (const { parameter, value } of fields) {
    const found = value();
    if (found === undefined) continue;
    if (parameter.kind === "var_positional") args.push(...found);
    else if (parameter.kind === "var_keyword") Object.assign(kwargs, found);
    else if (parameter.kind === "keyword_only" || args.length < position(fields, parameter)) kwargs[parameter.name] = found;
    else args.push(found);
  }
  return { args, kwargs };
}

const position = (fields, parameter) => fields.findIndex((each) => each.parameter === parameter);

function assigned(parameters, { args, kwargs }) {
  const known = new Map();
  const left = [...args];
  for (const each of parameters) {
    if (each.kind === "var_positional") known.set(each.name, left.splice(0));
    else if (each.kind !== "keyword_only" && each.kind !== "var_keyword" && left.length) known.set(each.name, left.shift());
  }
  const rest = { ...kwargs };
  for (const each of parameters) {
    if (each.name in rest) {
      known.set(each.name, rest[each.name]);
      delete rest[each.name];
    } else if (each.kind === "var_keyword") known.set(each.name, rest);
  }
  return known;
}

function made(parameter, given) {
  const { name, annotation, required } = parameter;
  const has = given !== undefined;
  const hint = [annotation, required ? "required" : `default ${JSON.stringify(parameter.default)}`].filter(Boolean).join(" · ");
  const type = annotation.replaceAll("'", "");
  if (type === "bool") {
    const input = h("input", { type: "checkbox", checked: has ? given : Boolean(parameter.default) });
    return { parameter, value: () => (input.checked === Boolean(parameter.default) && !required ? undefined : input.checked), node: field(name, input, hint) };
  }
  if (NUMBER.has(type)) {
    const input = h("input", { type: "number", step: "any", required, value: has && given !== null ? given : "" });
    return { parameter, value: () => (input.value === "" ? undefined : Number(input.value)), node: field(name, input, hint) };
  }
  if (TEXT.has(type)) {
    const input = h("input", { type: "text", required, value: has && given !== null ? given : "", autocomplete: "off" });
    return { parameter, value: () => (input.value === "" && !required ? undefined : input.value), node: field(name, input, hint) };
  }
  const star = { var_positional: "[]", var_keyword: "{}" }[parameter.kind];
  const input = h("textarea", { rows: 3, required: required && !star, value: has ? JSON.stringify(given, null, 2) : "", placeholder: star ?? "JSON", spellcheck: false });
  return { parameter, value: () => (input.value.trim() === "" ? undefined : json(name, input.value)), node: field(name, input, `JSON · ${hint}`) };
}

function raw(values) {
  const args = h("textarea", { rows: 3, value: JSON.stringify(values?.args ?? []), spellcheck: false });
  const kwargs = h("textarea", { rows: 3, value: JSON.stringify(values?.kwargs ?? {}), spellcheck: false });
  return { args, kwargs, node: [field("args", args, "a JSON list"), field("kwargs", kwargs, "a JSON object")] };
}

function json(name, text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${name} is not JSON: ${error.message}`);
  }
}
