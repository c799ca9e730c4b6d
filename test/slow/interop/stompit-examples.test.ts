/**
 * The examples that stompit ships in its package, run as they are, one process each: user admin, virtual host localhost.
 * Only `pubsub.js` is not: it calls a class of stompit 1.0 as a function, and ends there.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { afterEach, beforeAll, expect, it } from 'vitest';
import { useStompDoor } from '../../interop/stomp-door.ts';
import { eventually } from '../../support/eventually.ts';
import { ForeignProgram, PROGRAMS } from './foreign-program.ts';

const EXAMPLES = join(dirname(createRequire(import.meta.url).resolve('stompit')), '..', 'examples');

const door = useStompDoor();
const started: ForeignProgram[] = [];

beforeAll(async () => {
  const { administration } = door.broker;
  await administration.putVhost({ name: 'localhost' });
  await administration.putUser({ name: 'admin', password: 'password' });
  await administration.setPermission({ vhost: 'localhost', user: 'admin', configure: '.*', write: '.*', read: '.*' });
});
afterEach(async () => {
  await Promise.all(started.splice(0).map((program) => program.stop()));
});

function start(example: string): ForeignProgram {
  const preload = ['--require', join(PROGRAMS, 'redirect-stomp-port.cjs')];
  const env = { STOMP_PORT: String(door.port) };
  const program = new ForeignProgram(process.execPath, [...preload, join(EXAMPLES, example)], env);
  started.push(program);
  return program;
}

/** Takes what waits in the queue that the examples send to. */
async function taken(): Promise<Buffer[]> {
  const connection = await door.broker.connect(undefined, 'localhost');
  const channel = connection.openChannel();
  const bodies: Buffer[] = [];
  for (;;) {
    const got = await channel.get('test', { noAck: true });
    if (got === undefined) break;
    bodies.push(Buffer.from(got.message.body));
  }
  await connection.close();
  return bodies;
}

it('a client sends, and consumes once', async () => {
  await start('client/send.js').succeeds();
  const consumer = start('client/consume_once.js');
  await consumer.succeeds();
  expect(consumer.printed).toBe('{"anything":"anything","example":true}');
  expect(await taken()).toEqual([]);
});

it('a client sends a file', async () => {
  await start('client/send_file.js').succeeds();
  expect(await taken()).toEqual([readFileSync(join(EXAMPLES, 'client/data/input1.jpg'))]);
});

it('a client commits a transaction', async () => {
  await start('client/transaction.js').succeeds();
  expect((await taken()).map(String)).toEqual(['first', 'second']);
});

it('a channel sends, and consumes once', async () => {
  await start('channel/send.js').waitFor('sent message');
  await start('channel/consume_once.js').waitFor('receive message: hello');
  await eventually(async () => expect(await taken()).toEqual([]));
});
