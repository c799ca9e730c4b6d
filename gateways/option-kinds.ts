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
}

/** A port to listen on, or `off`. */
export const PORT: Kind<number | 'off'> = {
  placeholder: 'port',
  allowed: '0 (any free port) to 65535, or off',
  read(value) {
    return value === 'off' ? 'off' : readInteger(value, 0, 65535, this.allowed);
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
const MEMORY_BYTES_MIN = OCTETS_PER_UNIT.M;

/**
 * An amount of memory: up to 1 it is a share of what there is, from 1 MiB on it is octets; 0 = none. Units are those of
 * RabbitMQ: K, M and G, or KiB, MiB and GiB, count by 1024, and KB, MB and GB by 1000.
 */
export const MEMORY: Kind<number> = {
  placeholder: 'amount',
  allowed: 'a share like 0.6, or octets (at least 1 MiB) like 512MiB or 2GB, 0 = off',
  read(value) {
    const [, digits = '', unit] = /^(\d+(?:\.\d+)?) ?([KMG](?:i?B)?)?$/i.exec(String(value)) ?? [];
    const key = unit?.toUpperCase().replace('IB', '') as keyof typeof OCTETS_PER_UNIT | undefined;
    const amount = Number(digits) * (key === undefined ? 1 : OCTETS_PER_UNIT[key]);
    const isShare = key === undefined && amount <= 1;
    if (digits === '' || (!isShare && amount < MEMORY_BYTES_MIN)) throw new ValueError(`it takes ${this.allowed}`);
    return isShare ? amount : Math.round(amount);
  },
};

/** `none` only: where messages are kept is not to be chosen yet. */
export const DATA_FOLDER: Kind<'none'> = {
  placeholder: 'folder',
  allowed: 'none',
  read(value) {
    if (value === 'none') return value;
    throw new ValueError(
      'this version keeps everything in memory, the durable store is not in it yet; leave the option out or say none',
    );
  },
};
