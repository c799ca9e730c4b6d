/** What reports of damage say of what was there, and what happens to files in the log that are not of it. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { createMessage } from '../../../broker/message.ts';
import { openStore } from '../../../broker/storage/open-store.ts';
import { HEADER_BYTES } from '../../../broker/storage/record/record.ts';
import { NAMES_SHOWN_MAX } from '../../../broker/storage/recovery/holder-names.ts';
import type { Holder, Store, StoreEvent } from '../../../broker/store.ts';
import { FaultyFiles } from '../../support/faulty-files.ts';
import { DATA_DIR, TurningClock, untilCrash } from './store-life.ts';
import { TestCustody } from './test-custody.ts';

const LOG = `${DATA_DIR}/log/00000001.log`;

/** A store with queues named as the broker names them. */
class Names {
  readonly files: FaultyFiles;
  readonly clock = new TurningClock();
  readonly events: StoreEvent[] = [];
  store!: Store;
  readonly holders = new Map<string, Holder>();
  readonly custodies: TestCustody[] = [];
  #position = 0;

  constructor(files = new FaultyFiles()) {
    this.files = files;
  }

  async open(recover: 'refuse' | 'salvage' = 'refuse', segmentBytes = 2 ** 30): Promise<this> {
    const onEvent = (event: StoreEvent): void => void this.events.push(event);
    const { files, clock } = this;
    const opening = openStore({
      dataDir: DATA_DIR,
      version: '0.1.0',
      files,
      clock,
      reserveBytes: 0,
      recover,
      segmentBytes,
      onEvent,
    });
    this.store = (await untilCrash(files, clock, opening)) as Store;
    return this;
  }

  async sync(): Promise<void> {
    await untilCrash(this.files, this.clock, this.store.synced());
    await nextTurn();
  }

  declare(...names: string[]): void {
    for (const name of names) {
      const holder = this.store.holder();
      this.holders.set(name, holder);
      this.store.define('queue', ['/', name], { vhost: '/', queue: name, holder: holder.id });
    }
  }

  publish(names: readonly string[], count = 1): void {
    for (let each = 0; each < count; each++) {
      const message = createMessage({
        exchange: 'e',
        routingKey: 'k',
        body: `body-${this.custodies.length}-`.repeat(4),
      });
      for (const name of names) {
        const facts = { position: ++this.#position, priority: 0, expiresAtMs: Number.POSITIVE_INFINITY };
        const custody = new TestCustody(this.holders.get(name) as Holder, facts, '', true);
        this.custodies.push(custody);
        this.store.admit(custody, message, true);
      }
    }
  }

  /** Where the records of the log begin. */
  starts(path = LOG): number[] {
    const octets = Buffer.from(this.files.contents(path));
    const starts: number[] = [];
    for (let at = 0; at < octets.length; at += HEADER_BYTES + octets.readUInt32LE(at + 16)) starts.push(at);
    return starts;
  }

  /** The next process on the disk, with one octet of a record changed: that with this number, or the first of a body. */
  damaged(record: number, at: number | 'body', path = LOG): Names {
    const files = this.files.afterKill();
    const start = this.starts(path)[record] as number;
    const offset = at === 'body' ? Buffer.from(files.contents(path)).indexOf('body-', start) : start + at;
    files.damage(path, offset, Uint8Array.of((files.contents(path)[offset] as number) ^ 4));
    return new Names(files);
  }
}

async function refusal(names: Names): Promise<string> {
  return names.open().then(
    () => expect.unreachable('it was opened'),
    (error: Error) => error.message,
  );
}

describe('a damaged record', () => {
  test('is reported with the queues of its messages and acks, and its definitions', async () => {
    const names = await new Names().open();
    names.declare('orders', 'copies');
    await names.sync();
    names.publish(['orders', 'copies'], 2);
    names.publish(['orders']);
    await names.sync();
    names.store.settle(names.custodies[0] as TestCustody);
    names.publish(['copies']);
    await names.sync();
    names.publish(['orders']);
    await names.sync();
    expect(await refusal(names.damaged(1, 'body'))).toContain(
      'it held 5 messages (3 of queue "orders" in virtual host "/", 2 of queue "copies" in virtual host "/")',
    );
    // The header is gone too.
    expect(await refusal(names.damaged(1, 40))).toMatch(
      /what was here is not known for certain; there seem to have been messages \(3 of queue "orders" .*, 2 of queue "copies"/,
    );
    expect(await refusal(names.damaged(2, 'body'))).toContain(
      'it held 1 message (1 of queue "copies" in virtual host "/"), 1 ack (1 of queue "orders" in virtual host "/")',
    );
    expect(await refusal(names.damaged(0, 70))).toContain(
      `it held 2 definitions (which ${DATA_DIR}/log/00000001.state has too)`,
    );
  });

  test('of which the octets make no sense any more is reported as far as they do', async () => {
    const names = await new Names().open();
    names.declare('orders');
    await names.sync();
    names.publish(['orders'], 9);
    await names.sync();
    names.publish(['orders']);
    await names.sync();
    const files = names.files.afterKill();
    const [, start = 0, end = 0] = names.starts();
    files.damage(LOG, Math.floor((start + end) / 2), new Uint8Array(end - Math.floor((start + end) / 2)).fill(255));
    expect(await refusal(new Names(files))).toMatch(
      /it held 9 messages \([345] of queue "orders" in virtual host "\/"; of which queues the other [456] were cannot be told\)/,
    );
    files.damage(LOG, start + HEADER_BYTES, new Uint8Array(end - start - HEADER_BYTES).fill(255));
    expect(await refusal(new Names(files))).toContain('it held 9 messages (of which queues cannot be told)');
  });

  test(`names ${NAMES_SHOWN_MAX} queues, and says how many more there are`, async () => {
    const names = await new Names().open();
    const all = Array.from({ length: NAMES_SHOWN_MAX + 2 }, (_, index) => `q${index}`);
    names.declare(...all);
    await names.sync();
    names.publish(all);
    names.publish(['q3']);
    await names.sync();
    names.publish(['q1']);
    await names.sync();
    const text = await refusal(names.damaged(1, 'body'));
    expect(text).toContain(`it held ${all.length + 1} messages (2 of queue "q3" in virtual host "/", 1 of queue "q0" `);
    expect(text).toContain('1 of queue "q4" in virtual host "/" and 2 more)');
  });

  test('of an older segment is reported with the queues of what waits and is missing, and nothing else', async () => {
    const names = await new Names().open('refuse', 250);
    names.declare('orders', 'copies');
    await names.sync();
    names.publish(['orders', 'copies'], 2);
    await names.sync();
    names.store.settle(names.custodies[0] as TestCustody);
    names.publish(['orders'], 3);
    await names.sync();
    for (let round = 0; round < 5; round++) {
      names.publish(['orders'], 3);
      await names.sync();
    }
    expect(names.files.paths().filter((path) => path.endsWith('.log')).length).toBeGreaterThan(1);
    expect(await refusal(names.damaged(1, 'body'))).toContain(
      '3 messages that wait are missing (2 of queue "copies" in virtual host "/", 1 of queue "orders" in virtual host "/")',
    );
  });
});

test.each([
  [
    'its name can be made out',
    '"vhost"',
    '"rhost"',
    /^4 messages of 2 queues .*\(3 of queue "orders" in .*, 1 of queue "copies" in/,
  ],
  ['nothing can be made out', '"vhost"', '?????', /^4 messages of 2 queues .* \(of which queues cannot be told\)$/],
])(
  'messages of a queue whose definition is lost in both places, of which %s, are not dropped silently',
  async (_, from, to, says) => {
    const names = await new Names().open();
    names.declare('orders', 'copies');
    await names.sync();
    names.publish(['orders', 'copies']);
    names.publish(['orders'], 2);
    await names.sync();
    const files = names.files.afterKill();
    for (const path of [LOG, `${DATA_DIR}/log/00000001.state`]) {
      const octets = Buffer.from(files.contents(path));
      for (let at = octets.indexOf(from); at >= 0; at = octets.indexOf(from, at + 1)) {
        files.damage(path, at, Buffer.from(to));
      }
    }
    const next = await new Names(files).open('salvage');
    expect(next.store.definitions('queue')).toEqual([]);
    next.store.restored();
    await next.sync();
    const dropped = next.events.filter((event) => 'text' in event && event.text.includes('have been dropped'));
    expect(dropped).toEqual([{ type: 'damage', text: expect.stringMatching(says) }]);
  },
);

describe('a file of another log', () => {
  async function two(): Promise<{ readonly own: FaultyFiles; readonly foreign: Uint8Array }> {
    const other = await new Names().open();
    other.declare('theirs');
    await other.sync();
    other.publish(['theirs'], 5);
    await other.sync();
    const names = await new Names().open('refuse', 250);
    names.declare('ours');
    await names.sync();
    for (let round = 0; round < 6; round++) {
      names.publish(['ours'], 3);
      await names.sync();
    }
    // The older files go.
    for (const custody of names.custodies.slice(0, 12)) names.store.settle(custody);
    await names.sync();
    await untilCrash(names.files, names.clock, names.store.close());
    return { own: names.files.afterKill(), foreign: other.files.contents(LOG) };
  }

  test.each([
    ['below the newest', '00000001.log', undefined],
    ['above the newest', '00009999.log', undefined],
    ['with the highest number', '4294967295.log', undefined],
    ['of no Warren', '00000001.log', 'my notes\n'.repeat(20)],
    ['beside a mark that is missing', '00000001.log', undefined],
  ])('%s is refused and left alone, and moved aside by a salvage, which loses nothing', async (what, name, content) => {
    const { own, foreign } = await two();
    const path = `${DATA_DIR}/log/${name}`;
    expect(own.paths()).not.toContain(path);
    const octets = content === undefined ? foreign : Buffer.from(content);
    own.plant(path, octets);
    if (what.includes('mark')) await own.remove(`${DATA_DIR}/mark`);
    const before = own.paths().map((each) => [each, Buffer.from(own.contents(each)).toString('hex')]);
    const text = await refusal(new Names(own));
    expect(text).toContain(path);
    expect(own.paths().map((each) => [each, Buffer.from(own.contents(each)).toString('hex')])).toEqual(before);
    const next = await new Names(own).open('salvage');
    expect(own.paths()).not.toContain(path);
    const aside = own.paths().filter((each) => each.endsWith(name));
    expect(aside).toEqual([expect.stringMatching(/^\/data\/damaged-.*\.log$/)]);
    expect(Buffer.from(own.contents(aside[0] ?? ''))).toEqual(Buffer.from(octets));
    expect(next.store.definitions('queue').map(({ key }) => key[1])).toEqual(['ours']);
    const restored = next.store.restore(1);
    expect(restored.pages.reduce((sum, { count }) => sum + count, 0)).toBe(6);
    next.store.restored();
    await next.sync();
    // From now on all is well.
    await untilCrash(own, next.clock, next.store.close());
    const later = await new Names(own).open();
    expect(later.events).toEqual([]);
    expect(later.store.restore(1).pages.reduce((sum, { count }) => sum + count, 0)).toBe(6);
  });

  test('does not go unnoticed as the mark', async () => {
    const { own } = await two();
    const other = await new Names().open();
    other.declare('theirs');
    await other.sync();
    own.plant(`${DATA_DIR}/mark`, other.files.contents(`${DATA_DIR}/mark`));
    const next = await new Names(own).open();
    expect(next.events).toEqual([
      { type: 'notice', text: expect.stringContaining('is that of another data folder; it is made anew') },
    ]);
    expect(next.store.definitions('queue').map(({ key }) => key[1])).toEqual(['ours']);
  });
});
