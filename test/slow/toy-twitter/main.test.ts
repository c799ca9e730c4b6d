/** `npm run example:toy-twitter`: what it prints works; and what it keeps is there after a restart. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { playDemo } from '../../../examples/toy-twitter/demo.ts';
import { startServer } from '../../../examples/toy-twitter/server.ts';
import { FREE_PORTS, listen } from '../../examples/toy-twitter-place.ts';
import { xmppClient } from '../../gateways/xmpp/scene.ts';
import { eventually } from '../../support/eventually.ts';

const ROOT = join(import.meta.dirname, '../../..');
const SLOW = { timeoutMs: 60_000, everyMs: 50 };
const PORTS = ['--http-port=0', '--amqp-port=0', '--stomp-port=0', '--xmpp-port=0'];
const running: ChildProcess[] = [];

afterEach(() => {
  for (const child of running.splice(0)) child.kill('SIGKILL');
});

/** The program itself, without npm between it and its signals. */
function start(...flags: string[]): { child: ChildProcess; printed(): string; complained(): string } {
  const child = spawn(process.execPath, ['--import', 'tsx', 'examples/toy-twitter/main.ts', ...flags], { cwd: ROOT });
  running.push(child);
  let [printed, complained] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    printed += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complained += text;
  });
  return { child, printed: () => printed, complained: () => complained };
}

it('prints what to open and to type, plays the demonstration, and ends when told to', async () => {
  const { child, printed, complained } = start(...PORTS, '--demo');
  await eventually(() => expect(printed()).toContain('are here and talking'), SLOW);
  const [, page = ''] = /open +(http:\S+)/.exec(printed()) ?? [];
  expect(await (await fetch(page)).text()).toContain('<title>Toy Twitter</title>');
  const graph = (await (await fetch(`${page}toy-twitter/graph`)).json()) as { people: string[] };
  expect(graph.people).toEqual(['anna', 'ben', 'carla', 'juliet', 'romeo']);
  const commands = [...printed().matchAll(/npx tsx (.+--as zoe (?:post|follow) .+)$/gm)];
  let said = '';
  for (const [, command = ''] of commands) {
    const words = command.split(' ').map((word) => word.replace(/"/g, ''));
    const typed = spawn(process.execPath, ['--import', 'tsx', ...words], { cwd: ROOT });
    typed.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    await once(typed, 'close');
  }
  expect(said).toBe('Welcome, zoe.\nYou are now following anna.\n');
  child.kill('SIGTERM');
  const [code] = await once(child, 'close');
  expect([code, complained()]).toEqual([0, '']);
});

it('plays the demonstration again on the data of the last one, and takes no name from a person', async () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'toy-twitter-'));
  for (const taken of [false, false, true]) {
    const server = await startServer({ ports: FREE_PORTS, dataDir });
    if (taken) {
      await server.broker.administration.deleteUser('carla');
      await server.accounts.signIn('carla', undefined, true);
    }
    let told = '';
    const tell = (line: string): void => {
      told += line;
    };
    const demo = playDemo(server, tell, 10);
    const expected = taken ? /has ended: Somebody is carla already/ : /romeo are here and talking/;
    await eventually(() => expect(told).toMatch(expected), SLOW);
    await demo.stop();
    await server.close();
  }
  rmSync(dataDir, { recursive: true, force: true });
});

it('says what is in its way', async () => {
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  const { port } = taken.address() as { port: number };
  for (const [flags, complaint] of [
    [[...PORTS, `--http-port=${port}`], /Toy Twitter cannot start: .*in use.*-port choose other ports/s],
    [['--http-port=x'], /A port is a number/],
    [['--component=rabbiter.example.org'], /needs a --component-secret/],
    [['--component=a.b', '--component-secret=x', '--component-server=nonsense'], /is host:port/],
    [['--nonsense'], /unknown option/],
  ] as const) {
    const { child, complained } = start(...flags);
    const [code] = await once(child, 'close');
    expect([code, complained()]).toEqual([1, expect.stringMatching(complaint)]);
  }
  taken.close();
});

it('keeps people, follows and what waits for them across a restart, if it is told where', async () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'toy-twitter-'));
  const first = await startServer({ ports: FREE_PORTS, dataDir });
  const [anna, ben] = [
    await first.accounts.signIn('anna', undefined, true),
    await first.accounts.signIn('ben', undefined, true),
  ];
  const client = (port: number) =>
    xmppClient({ service: `xmpp://127.0.0.1:${port}`, domain: 'localhost', username: 'ben', password: ben.passcode });
  const [bot = ''] = first.bots;
  const chatter = await listen(client(first.ports.xmpp), bot);
  await chatter.presence();
  await chatter.presence({ type: 'subscribe', to: bot });
  await eventually(() => expect(chatter.texts).toHaveLength(1), SLOW);
  await chatter.ask('*follow anna');
  await chatter.stop();
  await first.twitter.post('anna', 'before');
  await first.close();

  const second = await startServer({ ports: FREE_PORTS, dataDir });
  expect(await second.accounts.signIn('anna', anna.passcode, true)).toMatchObject({ joined: 'already' });
  expect((await second.twitter.graph()).followers('anna')).toEqual(['ben']);
  await second.twitter.post('anna', 'after');
  const again = await listen(client(second.ports.xmpp), bot);
  await again.presence();
  const expected = ['from anna@localhost: before', 'from anna@localhost: after'];
  await eventually(() => expect(again.texts).toEqual(expected), SLOW);
  await again.stop();
  await second.close();
  rmSync(dataDir, { recursive: true, force: true });
});
