/** The lock of a data folder under processes that are killed at random, and between containers. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { lockFolder } from '../../broker/storage/folder/lock.ts';
import { eventually } from '../support/eventually.ts';
import { chanceOf } from '../support/memory-disk.ts';

const CONTENDER = join(import.meta.dirname, '../support/lock-contender.ts');

/** What a container is made of, but for its own file system; the process in it is number 1, on a host of that name. */
function container(host: string): string[] {
  const namespaces = ['--mount', '--pid', '--fork', '--kill-child', '--net', '--ipc', '--uts', '--mount-proc'];
  return ['unshare', ...namespaces, 'sh', '-c', `hostname ${host} && exec "$@"`, 'sh'];
}

const [UNSHARE = '', ...CONTAINER_ARGS] = container('probe');
const HAS_CONTAINERS = spawnSync(UNSHARE, [...CONTAINER_ARGS, 'true']).status === 0;

let folder: string;
const running = new Set<Contender>();

/** Something that a contender has said, or that was done to it. */
interface Event {
  readonly who: Contender;
  readonly what: 'has' | 'lets-go' | 'killed';
  readonly at: bigint;
}

class Contender {
  readonly child: ChildProcess;
  readonly events: Event[] = [];
  readonly refusals: string[] = [];
  #rest = '';

  /** Takes the lock `times` times, or takes it and keeps it (0). */
  constructor(times: number, wrapper: readonly string[] = []) {
    const node = [process.execPath, '--import', import.meta.resolve('tsx'), CONTENDER, folder, String(times)];
    const [program = '', ...args] = [...wrapper, ...node];
    this.child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => this.#onText(text));
    running.add(this);
  }

  #onText(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) {
      const [what, at = ''] = line.split(' ');
      if (what === 'refused') this.refusals.push(line);
      else this.events.push({ who: this, what: what === 'has' ? 'has' : 'lets-go', at: BigInt(at) });
    }
  }

  get has(): boolean {
    return this.events.at(-1)?.what === 'has';
  }

  async kill(): Promise<void> {
    running.delete(this);
    const closed = once(this.child, 'close');
    const at = process.hrtime.bigint();
    this.child.kill('SIGKILL');
    await closed;
    this.events.push({ who: this, what: 'killed', at });
  }
}

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'warren-lock-'));
});

afterEach(async () => {
  for (const contender of running) await contender.kill();
  rmSync(folder, { recursive: true, force: true });
});

/** Fails when anybody took the lock while another one had it. How often it was taken. */
function checkOneAtATime(events: readonly Event[]): number {
  let owner: Contender | undefined;
  let count = 0;
  const killed = new Set<Contender>();
  for (const { who, what } of events.toSorted((one, other) => (one.at < other.at ? -1 : 1))) {
    if (what === 'killed') killed.add(who);
    // What it still said after the signal was sent: it was dying by then.
    else if (killed.has(who)) continue;
    if (what === 'has') {
      expect(owner).toBeUndefined();
      owner = who;
      count++;
    } else if (owner === who) {
      owner = undefined;
    }
  }
  return count;
}

describe('the lock of a data folder', () => {
  it('never has two owners, while processes that want it come and are killed', async () => {
    const chance = chanceOf(1);
    const all: Contender[] = [];
    const eventCount = (): number => all.reduce((sum, { events }) => sum + events.length, 0);
    let killedAsOwner = 0;
    for (let round = 0; round < 50; round++) {
      while (running.size < 4) all.push(new Contender(1_000_000));
      const wanted = eventCount() + 1 + chance(40);
      // Somebody has had it again: whoever was killed is in nobody's way.
      await eventually(() => expect(eventCount()).toBeGreaterThanOrEqual(wanted), { timeoutMs: 20_000, everyMs: 1 });
      const victim = [...running][chance(running.size)];
      await victim?.kill();
      if (victim?.events.at(-2)?.what === 'has') killedAsOwner++;
    }
    for (const contender of running) await contender.kill();
    const owned = checkOneAtATime(all.flatMap(({ events }) => events));
    expect(owned).toBeGreaterThan(500);
    expect(killedAsOwner).toBeGreaterThan(3);
    for (const text of all.flatMap(({ refusals }) => refusals)) expect(text).toContain('is in use by process');
    await (await lockFolder(folder)).release();
    expect(readdirSync(join(folder, 'lock'))).toEqual([]);
  });

  it.runIf(HAS_CONTAINERS)('is one lock for all containers that share the folder', async () => {
    const first = new Contender(0, container('red'));
    await eventually(() => expect(first.has).toBe(true), { timeoutMs: 20_000 });
    const second = new Contender(0, container('blue'));
    await once(second.child, 'close');
    running.delete(second);
    expect(second.refusals[0]).toContain(`data folder ${folder} is in use by process 1 on host red (since `);
    await expect(lockFolder(folder)).rejects.toThrow('is in use by process 1 on host red (since ');
    await first.kill();
    const third = new Contender(0, container('blue'));
    await eventually(() => expect(third.has).toBe(true), { timeoutMs: 20_000 });
    await third.kill();
    await (await lockFolder(folder)).release();
    expect(readdirSync(join(folder, 'lock'))).toEqual([]);
  });
});
