// Random typed data: the same for the same seed.

const WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"];

/** Numbers from a seed (mulberry32): `below(n)` is one from 0 to n - 1. */
function numbers(seed) {
  let state = seed;
  const next = () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return (mixed ^ (mixed >>> 14)) >>> 0;
  };
  return { below: (n) => next() % n };
}

function pick(random, from) {
  return from[random.below(from.length)];
}

function hex(random, length) {
  return "0x" + Array.from({ length }, () => random.below(256).toString(16).padStart(2, "0")).join("");
}

function atomic(random) {
  const size = random.below(32) + 1;
  return pick(random, [`uint${8 * size}`, `int${8 * size}`, `bytes${size}`, "bool", "address", "bytes", "string"]);
}

/** A type with arrays of any kind around it. */
function wrapped(random, base) {
  let type = base;
  while (random.below(4) === 0) type += pick(random, ["[]", `[${random.below(3) + 1}]`]);
  return type;
}

/** A number below 2^bits, long or short. */
function magnitude(random, bits) {
  const length = random.below(bits) + 1;
  let number = 0n;
  for (let bit = 0; bit < length; bit += 1) number = (number << 1n) | BigInt(random.below(2));
  return number;
}

/** As wallets write it. */
function written(random, number) {
  const forms = [number.toString()];
  if (number >= 0n) forms.push("0x" + number.toString(16));
  if (number >= -(2n ** 53n) && number < 2n ** 53n) forms.push(Number(number));
  return pick(random, forms);
}

function value(random, types, type) {
  const array = type.match(/^(.*)\[(\d*)\]$/);
  if (array) {
    const length = array[2] === "" ? random.below(4) : Number(array[2]);
    return Array.from({ length }, () => value(random, types, array[1]));
  }
  if (types[type]) {
    return Object.fromEntries(types[type].map((member) => [member.name, value(random, types, member.type)]));
  }
  const sized = type.match(/^(uint|int|bytes)(\d+)$/);
  if (sized) {
    const size = Number(sized[2]);
    if (sized[1] === "bytes") return hex(random, size);
    if (sized[1] === "uint") return written(random, magnitude(random, size));
    const number = magnitude(random, size - 1);
    return written(random, random.below(2) === 0 ? number : -number - 1n);
  }
  switch (type) {
    case "bool":
      return random.below(2) === 0;
    case "address":
      return hex(random, 20);
    case "bytes":
      return hex(random, random.below(70));
    default:
      return Array.from({ length: random.below(12) }, () => pick(random, ["a", "Z", "7", " ", "\n", "\"", "ü", "漢", "🦊"])).join("");
  }
}

/** A piece of typed data with up to five structs, each of which uses only those behind it. */
export function typedData(seed) {
  const random = numbers(seed);
  const names = WORDS.slice(0, random.below(5) + 1).map((word) => word[0].toUpperCase() + word.slice(1));
  const types = {};
  for (let at = names.length - 1; at >= 0; at -= 1) {
    const behind = names.slice(at + 1);
    const members = WORDS.slice(0, random.below(WORDS.length) + 1);
    types[names[at]] = members.map((name) => {
      const base = behind.length > 0 && random.below(3) === 0 ? pick(random, behind) : atomic(random);
      return { name, type: wrapped(random, base) };
    });
  }
  const fields = [
    { name: "name", type: "string" },
    { name: "version", type: "string" },
    { name: "chainId", type: "uint256" },
    { name: "verifyingContract", type: "address" },
    { name: "salt", type: "bytes32" },
  ].filter(() => random.below(3) > 0);
  types.EIP712Domain = fields.length > 0 ? fields : [{ name: "name", type: "string" }];
  const domain = value(random, types, "EIP712Domain");
  return { types, primaryType: names[0], domain, message: value(random, types, names[0]) };
}
