/**
 * Damage under a stopped broker: a flipped bit in every region of every file, files cut off, gone, mixed up and hostile.
 * Either everything is there as if nothing had been, or the start is refused with the file and the place, and the folder
 * is as it was, octet for octet. With `--recover salvage` all is there but what the damaged record held.
 */
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, renameSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { HEADER_BYTES } from '../../../broker/storage/record/record.ts';
import { StoreError } from '../../../broker/storage/store-error.ts';
import { Random } from '../../support/crash/random.ts';
import { type Contents, contentsOf, copyFolder, fillSample, octetsOf, open, sampleFolder } from './sample.ts';

/** The fields of a header, or halves of fields. */
const HEADER_FIELDS = Array.from({ length: HEADER_BYTES / 4 }, (_, index) => index * 4);
/** Where a header says how long its payload is and how many messages with a queue are in it (broker/storage/record/record.ts). */
const PAYLOAD_BYTES_AT = 16;
const SLOT_COUNT_AT = 32;

/** What was settled in the sample, and may come back when the record that says so is damaged. */
const SETTLED = ['orders o1', 'orders a1', 'orders a6'];

let root = '';
/** Copies of the sample: killed, and ended in an orderly way. What is tried lies in `trial`. */
const folders = { killed: '', ended: '', trial: '' };
let whole: Contents;
const random = new Random(1);

beforeAll(async () => {
  root = sampleFolder();
  for (const name of ['killed', 'ended', 'trial'] as const) folders[name] = join(root, name);
  await fillSample(folders.ended, folders.killed);
  copyFolder(folders.killed, folders.trial);
  whole = await found();
});

/** What a broker has of the folder that is tried; takes it out. */
async function found(recover?: 'salvage'): Promise<Contents> {
  const { broker, close } = await open(folders.trial, recover);
  try {
    return await contentsOf(broker);
  } finally {
    await close();
  }
}

/** Opens the folder that is tried: undefined when everything is there, else what the refusal says. */
async function refusal(): Promise<string | undefined> {
  const before = octetsOf(folders.trial);
  try {
    const contents = await found();
    expect(contents).toEqual(whole);
    return undefined;
  } catch (error) {
    if (!(error instanceof StoreError)) throw error;
    expect(octetsOf(folders.trial)).toEqual(before);
    return error.message.replaceAll(folders.trial, '~');
  }
}

interface Difference {
  /** `queue id`. */
  readonly lost: readonly string[];
  readonly back: readonly string[];
}

function namesOf({ messages }: Contents): string[] {
  return Object.entries(messages).flatMap(([queue, all]) => all.map((text) => `${queue} ${text.split(' ')[0]}`));
}

/** Salvages the folder that is tried, in which `file` is damaged, and opens it once more as usual. */
async function salvage(file: string): Promise<Difference> {
  const damaged = octetsOf(folders.trial).get(file);
  const { broker, events, close } = await open(folders.trial, 'salvage');
  await close();
  expect(events.map(({ type }) => type)).toContain('damage');
  if (damaged !== undefined) {
    const copies = [...octetsOf(folders.trial)].filter(([path]) => /^damaged-.*\//.test(path));
    expect(copies.some(([, octets]) => octets.equals(damaged))).toBe(true);
  }
  expect(broker.name).toBe('warren@localhost');
  // From now on all is well.
  const contents = await found();
  expect(contents.definitions).toEqual(whole.definitions);
  const [before, after] = [namesOf(whole), namesOf(contents)];
  return {
    lost: before.filter((name) => !after.includes(name)),
    back: after.filter((name) => !before.includes(name)),
  };
}

interface Place {
  readonly offset: number;
  readonly end: number;
  readonly slotCount: number;
}

function recordsOf(octets: Buffer): Place[] {
  const places: Place[] = [];
  for (let offset = 0; offset < octets.length; offset = places.at(-1)?.end ?? octets.length) {
    expect(octets.toString('latin1', offset, offset + 3)).toBe('WRN');
    const end = offset + HEADER_BYTES + octets.readUInt32LE(offset + PAYLOAD_BYTES_AT);
    places.push({ offset, end, slotCount: octets.readUInt32LE(offset + SLOT_COUNT_AT) });
  }
  return places;
}

function flip(file: string, at: number): void {
  const octets = Buffer.from(octetsOf(folders.trial).get(file) ?? '');
  octets.writeUInt8(octets.readUInt8(at) ^ (1 << random.below(8)), at);
  writeFileSync(join(folders.trial, file), octets);
}

const LOGS = ['log/00000001.log', 'log/00000002.log', 'log/00000003.log'];

describe.each(['killed', 'ended'] as const)('a flipped bit in a folder whose broker was %s', (how) => {
  it.each(LOGS)('in %s: in each field of each header, and at each end of what it heads', async (file) => {
    const places = recordsOf(octetsOf(folders[how]).get(file) ?? Buffer.alloc(0));
    expect(places.length).toBeGreaterThanOrEqual(file === LOGS[2] ? 1 : 10);
    let refusals = 0;
    for (const place of places) {
      const payload = place.offset + HEADER_BYTES;
      const inside = [payload, Math.floor((payload + place.end) / 2), place.end - 1];
      for (const at of [...HEADER_FIELDS.map((field) => place.offset + field), ...inside]) {
        copyFolder(folders[how], folders.trial);
        flip(file, at);
        const text = await refusal();
        if (text === undefined) continue;
        refusals += 1;
        expect(text).toContain(`~/${file}, octet ${place.offset}: `);
        expect(text).toContain('--recover salvage');
        const { lost, back } = await salvage(file);
        // A message for several queues has a slot for each.
        expect(lost.length).toBeLessThanOrEqual(place.slotCount);
        for (const name of back) expect(SETTLED).toContain(name);
        if (back.length > 0) expect(file).toBe(LOGS[2]);
      }
    }
    expect(refusals).toBeGreaterThan(0);
  });

  it('in FORMAT: refused, or the name of who wrote it is another', async () => {
    for (let at = 0; at < 40; at++) {
      copyFolder(folders[how], folders.trial);
      flip('FORMAT', at);
      const text = await refusal();
      if (text !== undefined) expect(text).toMatch(/^~\/FORMAT is damaged|^data folder ~ has format \d+/);
      if (at < 13) expect(text).toBeDefined();
    }
  });

  it.each(['mark', 'reserve', 'log/00000003.state'])('in %s: harmless', async (file) => {
    const bytes = file.endsWith('.state') ? (octetsOf(folders[how]).get(file)?.length ?? 0) : 64;
    expect(bytes).toBeGreaterThanOrEqual(64);
    for (let at = 0; at < bytes; at += Math.ceil(bytes / 100)) {
      copyFolder(folders[how], folders.trial);
      flip(file, at);
      expect(await refusal()).toBeUndefined();
    }
  });
});

describe('a file that is cut off', () => {
  it.each(LOGS)('%s, at and within each record', async (file) => {
    const octets = octetsOf(folders.ended).get(file) ?? Buffer.alloc(0);
    for (const { offset, end } of recordsOf(octets)) {
      for (const bytes of [offset, offset + 1, offset + HEADER_BYTES, end - 1]) {
        copyFolder(folders.ended, folders.trial);
        truncateSync(join(folders.trial, file), bytes);
        const text = await refusal();
        expect(text).toContain(`~/${file}, octet ${bytes === end ? end : offset}: the file ends at octet ${bytes}`);
        const { back } = await salvage(file);
        for (const name of back) expect(SETTLED).toContain(name);
      }
    }
  });
});

describe('a folder with', () => {
  const log = (number: number): string => join(folders.trial, `log/0000000${number}.log`);
  const at = (name: string): string => join(folders.trial, name);
  const fifo = (path: string): void => {
    rmSync(path, { recursive: true });
    execFileSync('mkfifo', [path]);
  };

  const refused: readonly (readonly [what: string, says: string, spoil: () => void])[] = [
    ...[1, 2, 3].flatMap((number): [string, string, () => void][] => [
      [`segment ${number} missing`, `~/log/0000000${number}.log: the file is missing`, () => rmSync(log(number))],
      [
        `segment ${number} full of zeros`,
        `~/log/0000000${number}.log, octet 0: `,
        () => writeFileSync(log(number), Buffer.alloc(3000)),
      ],
      [
        `segment ${number} full of chance`,
        `~/log/0000000${number}.log, octet 0: `,
        () => writeFileSync(log(number), Buffer.from(Array.from({ length: 3000 }, () => random.below(256)))),
      ],
      [
        `another segment in the place of ${number}`,
        `~/log/0000000${number}.log, octet 0: `,
        () => copyFileSync(log(number === 1 ? 2 : 1), log(number)),
      ],
      [`a pipe in the place of segment ${number}`, `~/log has "0000000${number}.log" in it`, () => fifo(log(number))],
      [
        `a folder in the place of segment ${number}`,
        `~/log has "0000000${number}.log" in it`,
        () => {
          rmSync(log(number));
          mkdirSync(log(number));
        },
      ],
      [
        `a device in the place of segment ${number}`,
        `~/log has "0000000${number}.log" in it`,
        () => {
          rmSync(log(number));
          symlinkSync('/dev/zero', log(number));
        },
      ],
    ]),
    [
      'two segments that have changed places',
      '~/log/00000001.log, octet 0: ',
      () => {
        renameSync(log(1), at('aside'));
        renameSync(log(2), log(1));
        renameSync(at('aside'), log(2));
      },
    ],
    ['a foreign file among the segments', '~/log has "notes.txt" in it', () => writeFileSync(at('log/notes.txt'), '')],
    [
      'no segment at all',
      '~/log/00000003.log: the file is missing',
      () => [1, 2, 3].forEach((n) => void rmSync(log(n))),
    ],
    ['no folder of segments', '~ has lost its folder ~/log', () => rmSync(at('log'), { recursive: true })],
    ['no FORMAT', '~ has no FORMAT file', () => rmSync(at('FORMAT'))],
    ['an empty FORMAT', '~/FORMAT is damaged (empty)', () => truncateSync(at('FORMAT'), 0)],
    ['a long FORMAT', '~/FORMAT is damaged (too long)', () => truncateSync(at('FORMAT'), 5000)],
    ['a pipe in the place of FORMAT', '~/FORMAT is not a file', () => fifo(at('FORMAT'))],
    [
      'a FORMAT that says nothing',
      '~/FORMAT is damaged (no number of a format)',
      () => writeFileSync(at('FORMAT'), '{"__proto__":{"format":1}}'),
    ],
    [
      'a newer format',
      'data folder ~ has format 3, written by warren 9?[31m',
      () => writeFileSync(at('FORMAT'), JSON.stringify({ format: 3, writtenBy: 'warren 9\u001b[31m' })),
    ],
    ['a pipe in the place of the mark', '~/mark is not a file', () => fifo(at('mark'))],
    ['a pipe in the place of the reserve', '~/reserve is not a file', () => fifo(at('reserve'))],
    ['a pipe in the place of the lock', '~/lock is not a folder', () => fifo(at('lock'))],
  ];
  it.each(refused)('%s is refused: %s', async (_what, says, spoil) => {
    copyFolder(folders.killed, folders.trial);
    spoil();
    expect(await refusal()).toContain(says);
  });

  const harmless: readonly (readonly [what: string, spoil: () => void])[] = [
    ['no mark', () => rmSync(at('mark'))],
    ['an empty mark', () => truncateSync(at('mark'), 0)],
    ['no reserve', () => rmSync(at('reserve'))],
    ['no second copy', () => rmSync(at('log/00000003.state'))],
    ['an empty second copy', () => truncateSync(at('log/00000003.state'), 0)],
    ['a second copy of an older segment', () => copyFileSync(log(1), at('log/00000001.state'))],
    ['no lock', () => rmSync(at('lock'), { recursive: true })],
    ['a foreign file beside all others', () => writeFileSync(at('notes.txt'), '')],
    ['an empty segment too many', () => writeFileSync(log(4), '')],
    [
      'the rest of a commit at the end',
      () =>
        writeFileSync(
          log(3),
          Buffer.concat(
            [octetsOf(folders.killed).get(LOGS[2] ?? '') ?? '', Buffer.from('WRN1x')].map((part) => Buffer.from(part)),
          ),
        ),
    ],
    [
      'octets behind an older segment',
      () =>
        writeFileSync(
          log(1),
          Buffer.concat([octetsOf(folders.killed).get(LOGS[0] ?? '') ?? Buffer.alloc(0), Buffer.alloc(5000, 'WRN1')]),
        ),
    ],
  ];
  it.each(harmless)('%s is taken', async (_what, spoil) => {
    copyFolder(folders.killed, folders.trial);
    spoil();
    expect(await refusal()).toBeUndefined();
  });
});
