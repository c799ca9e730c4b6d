/** Ten thousand workers parked on one process: what they cost while nothing happens, and when something does. */
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { GUEST } from '../../gateways/reverse-http/scene.ts';
import { eventually } from '../../support/eventually.ts';
import { WarrenProcess } from '../../support/warren-process.ts';

const WORKERS = 10_000;
/** How many are being opened at a time. */
const AT_A_TIME = 100;
const MEASURED_MS = 10_000;
/** Of one core; near zero, with room for a machine that does something else too. */
const IDLE_SHARE_MAX = 0.05;
const WAIT = { timeoutMs: 60_000, everyMs: 100 };

/** One connection that speaks HTTP by hand: it costs this process less than a client would. */
class Worker {
  readonly #socket: Socket;
  #received = '';

  constructor(port: number) {
    this.#socket = connect(port, '127.0.0.1');
    this.#socket.setEncoding('latin1').on('data', (text: string) => {
      this.#received += text;
    });
    this.#socket.on('error', () => {});
  }

  get received(): string {
    return this.#received;
  }

  /** Sends a request and answers the field `Link` of the response with this relation. */
  async ask(head: string, body = ''): Promise<string> {
    this.#received = '';
    this.#socket.write(`${head}\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
    await eventually(() => expect(this.#received).toContain('\r\n\r\n'), { timeoutMs: 30_000 });
    return /<http:\/\/localhost(\/[^>]*)>; rel="first"/.exec(this.#received)?.[1] ?? '';
  }

  park(path: string): void {
    this.#received = '';
    this.#socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
  }

  end(): void {
    this.#socket.destroy();
  }
}

/** Processor time that a process has used, in milliseconds. */
function processorMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1')
    .replace(/^.*\) /s, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

function residentMegabytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) / 1024;
}

/** Both ends of every connection are files, in this process and in the other one. */
const filesMax = Number(/^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1] ?? 0);

const title = 'ten thousand parked workers cost next to nothing, and each of them can be found free';

it.skipIf(filesMax < WORKERS + 1000)(title, async () => {
  const warren = await WarrenProcess.start();
  const workers: Worker[] = [];
  try {
    const { port } = warren.door('ws');
    const pid = warren.child.pid ?? 0;
    const before = residentMegabytes(pid);
    const open = async (): Promise<void> => {
      const worker = new Worker(port);
      workers.push(worker);
      const head = `POST /reversehttp HTTP/1.1\r\nAuthorization: ${GUEST.Authorization}`;
      worker.park(await worker.ask(head, 'name=work&token=t'));
    };
    while (workers.length < WORKERS) await Promise.all(Array.from({ length: AT_A_TIME }, open));
    const slots = async (): Promise<unknown> => (await fetch(`http://127.0.0.1:${port}/http/work/.slots`)).json();
    await eventually(async () => expect(await slots()).toMatchObject({ slots: WORKERS, free: WORKERS }), WAIT);
    await delay(2000); // What is left to be collected after so much opening.

    const started = processorMs(pid);
    await delay(MEASURED_MS);
    const share = (processorMs(pid) - started) / MEASURED_MS;
    const kilobytes = ((residentMegabytes(pid) - before) * 1024) / WORKERS;
    console.log(`${WORKERS} parked: ${(share * 100).toFixed(2)} % of a core, ${kilobytes.toFixed(1)} KiB each`);
    expect(share).toBeLessThan(IDLE_SHARE_MAX);

    // Each request finds somebody who is free, and nobody gets two.
    const asked = Array.from({ length: 50 }, () => fetch(`http://127.0.0.1:${port}/http/work/`).catch(() => undefined));
    await eventually(async () => expect(await slots()).toMatchObject({ free: WORKERS - 50, busy: 50 }), WAIT);
    expect(workers.filter(({ received }) => received.startsWith('HTTP/1.1 200 ')).length).toBe(50);
    await warren.stop();
    await Promise.all(asked);
  } finally {
    for (const worker of workers) worker.end();
    await warren.stop();
  }
});
