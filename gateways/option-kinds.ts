/**
 * The kinds of values that options take: how one is read from a word of the command line, an environment variable or a
 * TOML value, and how what is allowed is said to a person.
 */
import { resolve } from 'node:path';
import { AddressRanges } from './addresses.ts';

/** A value that an option does not take; the message is a sentence's end: "is not allowed: …". */
export class ValueError extends Error {
  override readonly name = 'ValueError';
}

export interface Kind<Value> {
  /** For `--flag <placeholder>`. */
  readonly placeholder: string;
  /** What is allowed, e.g. `0 to 65535`. */
  readonly allowed: string;
  /**
   * Reads a value: a string from the command line or the environment, anything that TOML has from a file. Relative paths
   * begin at `folder`. Throws ValueError.
   */
  read(value: unknown, folder: string): Value;
  /** A value as a person would write it; absent where its `String` is that. */
  write?(value: Value): string;
}

/** A port to listen on, or `off`. */
export const PORT: Kind<number | 'off'> = {
  placeholder: 'port',
  allowed: '0 (any free port) to 65535, or off',
  read(value) {
    return value === 'off' ? 'off' : readInteger(value, 0, 65535, this.allowed);
  },
};

/** Ports to listen on with one door, in TOML also an array; the empty list for `off`. */
export const PORTS: Kind<readonly number[]> = {
  placeholder: 'ports',
  allowed: '0 (any free port) to 65535, separated by commas, or off',
  read(value) {
    if (value === 'off' || value === 'none') return [];
    const parts = typeof value === 'string' ? value.split(',').map((part) => part.trim()) : [value].flat();
    const ports = parts.map((part) => readInteger(part, 0, 65535, this.allowed));
    const isTwice = ports.some((port, index) => port !== 0 && ports.indexOf(port) !== index);
    if (isTwice) throw new ValueError('it takes each port once');
    return ports;
  },
};

/** Whole numbers from `min` to `max`. */
export function integer(placeholder: string, min: number, max: number, note = ''): Kind<number> {
  const allowed = `${min} to ${max}${note}`;
  return { placeholder, allowed, read: (value) => readInteger(value, min, max, allowed) };
}

function readInteger(value: unknown, min: number, max: number, allowed: string): number {
  const number = typeof value === 'string' && /^-?\d{1,15}$/.test(value) ? Number(value) : value;
  if (typeof number === 'number' && Number.isInteger(number) && number >= min && number <= max) return number;
  throw new ValueError(`it takes a whole number, ${allowed}`);
}

/** Any text but the empty one. */
export function text(placeholder: string, allowed = 'any text'): Kind<string> {
  return { placeholder, allowed, read: (value) => readText(value, allowed) };
}

function readText(value: unknown, allowed: string): string {
  if (typeof value === 'string' && value !== '') return value;
  throw new ValueError(`it takes ${allowed}`);
}

/** `http://…` or `https://…` with a host and perhaps a port, and nothing after it. */
export const BASE_URL: Kind<string> = {
  placeholder: 'url',
  allowed: 'a URL like https://broker.example',
  read(value) {
    const text = readText(value, this.allowed);
    const url = URL.canParse(text) ? new URL(text) : undefined;
    const isBase = url !== undefined && /^https?:$/.test(url.protocol) && `${url.origin}/` === url.href;
    if (!isBase) throw new ValueError(`it takes ${this.allowed}`);
    return url.origin;
  },
};

/** The name of a domain; what protocols allow in it besides is for them to say. */
export const DOMAIN: Kind<string> = {
  placeholder: 'domain',
  allowed: 'a domain like example.org',
  read(value) {
    const name = readText(value, this.allowed);
    if (!isDomain(name)) throw new ValueError(`it takes ${this.allowed}`);
    return name;
  },
};

function isDomain(name: string): boolean {
  return /^[^\s/@:=,<>&'"]+$/.test(name);
}

/** One of a few words. */
export function choice<const Word extends string>(placeholder: string, words: readonly Word[]): Kind<Word> {
  const allowed = words.join(', ').replace(/, ([^,]*)$/, ' or $1');
  return {
    placeholder,
    allowed,
    read(value) {
      const word = words.find((candidate) => candidate === value);
      if (word === undefined) throw new ValueError(`it takes ${allowed}`);
      return word;
    },
  };
}

/** The path of a file; relative ones begin at the folder of the configuration file, or else the working directory. */
export const FILE: Kind<string> = {
  placeholder: 'file',
  allowed: 'a path',
  read: (value, folder) => resolve(folder, readText(value, 'a path')),
};

/** Texts with commas between them, in TOML also an array; `none` for the empty list. */
export function list(placeholder: string, allowed: string): Kind<readonly string[]> {
  const allAllowed = `${allowed}, separated by commas, or none`;
  return {
    placeholder,
    allowed: allAllowed,
    read(value) {
      const parts = typeof value === 'string' ? value.split(',').map((part) => part.trim()) : value;
      if (!Array.isArray(parts)) throw new ValueError(`it takes ${allAllowed}`);
      if (parts.length === 1 && parts[0] === 'none') return [];
      return parts.map((part) => readText(part, allAllowed));
    },
  };
}

/** Domains, each of them perhaps with `=` and a virtual host. */
export function domains(allowed: string): Kind<readonly string[]> {
  return checkedList('domains', allowed, (item) => isDomain(item.replace(/=.+$/, '')));
}

/** Origins of web pages, as browsers send them, and the words for many at once. */
export const ORIGINS: Kind<readonly string[]> = checkedList(
  'origins',
  'origins like https://app.example, loopback (this machine), null or *',
  (item) => ['loopback', 'null', '*'].includes(item) || /^[a-z][a-z\d+.-]*:\/\/[^\s/?#@]+$/i.test(item),
);

/** A list of which every item has to be right. */
function checkedList(
  placeholder: string,
  allowed: string,
  isRight: (item: string) => boolean,
): Kind<readonly string[]> {
  const kind = list(placeholder, allowed);
  return {
    ...kind,
    read(value, folder) {
      const items = kind.read(value, folder);
      const wrong = items.find((item) => !isRight(item));
      if (wrong !== undefined) throw new ValueError(`${JSON.stringify(wrong)} is none; it takes ${kind.allowed}`);
      return items;
    },
  };
}

/** Ranges of addresses; see AddressRanges. */
export const ADDRESS_RANGES: Kind<readonly string[]> = {
  ...list('ranges', 'address ranges like 10.0.0.0/8'),
  read(value, folder) {
    const ranges = list('ranges', 'address ranges like 10.0.0.0/8').read(value, folder);
    try {
      new AddressRanges(ranges);
    } catch (error) {
      if (error instanceof RangeError) throw new ValueError(error.message);
      throw error;
    }
    return ranges;
  },
};

const OCTETS_PER_UNIT = { K: 1024, M: 1024 ** 2, G: 1024 ** 3, KB: 1e3, MB: 1e6, GB: 1e9 } as const;
const AMOUNT_BYTES_MIN = OCTETS_PER_UNIT.M;
const OCTETS_ALLOWED = 'octets (at least 1 MiB) like 512MiB or 2GB';

/** `4096` becomes `4KiB`: the largest unit that leaves a whole number, if there is one. */
function writeOctets(octets: number): string {
  const unit = (['G', 'M', 'K'] as const).find(
    (key) => octets >= OCTETS_PER_UNIT[key] && octets % OCTETS_PER_UNIT[key] === 0,
  );
  return unit === undefined ? String(octets) : `${octets / OCTETS_PER_UNIT[unit]}${unit}iB`;
}

/** Octets from `min` to `max`, with a unit or without. */
export function octets(min: number, max: number): Kind<number> {
  const allowed = `octets, ${writeOctets(min)} to ${writeOctets(max)}`;
  return {
    placeholder: 'octets',
    allowed,
    read(value) {
      const { amount } = readAmount(value, allowed);
      if (!Number.isInteger(amount) || amount < min || amount > max) throw new ValueError(`it takes ${allowed}`);
      return amount;
    },
    write: writeOctets,
  };
}

/** An amount as it is written: a number with a unit or without. Throws ValueError. */
function readAmount(value: unknown, allowed: string): { readonly amount: number; readonly isBare: boolean } {
  const [, digits = '', unit] = /^(\d+(?:\.\d+)?) ?([KMG](?:i?B)?)?$/i.exec(String(value)) ?? [];
  const key = unit?.toUpperCase().replace('IB', '') as keyof typeof OCTETS_PER_UNIT | undefined;
  if (digits === '') throw new ValueError(`it takes ${allowed}`);
  return { amount: Number(digits) * (key === undefined ? 1 : OCTETS_PER_UNIT[key]), isBare: key === undefined };
}

/**
 * A share of what there is, a number without a unit for which `isShare` holds; or octets, from 1 MiB on; 0 = none. Units
 * are those of RabbitMQ: K, M and G, or KiB, MiB and GiB, count by 1024, and KB, MB and GB by 1000.
 */
function shareOrOctets(allowed: string, isShare: (number: number) => boolean): Kind<number> {
  return {
    placeholder: 'amount',
    allowed,
    read(value) {
      const { amount, isBare } = readAmount(value, allowed);
      if (isBare && isShare(amount)) return amount;
      if (amount < AMOUNT_BYTES_MIN) throw new ValueError(`it takes ${allowed}`);
      return Math.round(amount);
    },
    write: (value) => (isShare(value) ? String(value) : writeOctets(value)),
  };
}

/** An amount of memory: up to 1 it is a share of what there is, from 1 MiB on it is octets; 0 = none. */
export const MEMORY: Kind<number> = shareOrOctets(
  `a share like 0.6, or ${OCTETS_ALLOWED}, 0 = off`,
  (number) => number <= 1,
);

/** Room on a disk: below 1 it is a share of the whole disk, from 1 MiB on it is octets; 0 = none. */
export const DISK: Kind<number> = shareOrOctets(
  `a share of the disk like 0.05, or ${OCTETS_ALLOWED}, 0 = off`,
  (number) => number < 1,
);

/** Octets, at least 1 MiB, with a unit or without. */
export const OCTETS: Kind<number> = shareOrOctets(OCTETS_ALLOWED, () => false);

/** The path of a folder, as `FILE` has it, or `none`. */
export const DATA_FOLDER: Kind<string> = {
  placeholder: 'folder',
  allowed: 'a path, or none',
  read: (value, folder) => (value === 'none' ? value : resolve(folder, readText(value, 'a path, or none'))),
};
