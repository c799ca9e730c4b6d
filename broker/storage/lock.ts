/**
 * One data folder, one process: also when both run in containers that share nothing but the folder, and also when the
 * last owner was killed with no time to tidy up.
 *
 * Whoever wants the folder listens on a Unix socket of its own in `<data folder>/lock/` and then asks every other socket
 * there. A socket that nobody listens on belongs to a process that is gone, and the kernel knows that at once. An owner
 * says who he is. No socket is ever taken over, so there is no moment at which two processes can take over the same one.
 *
 * Why there are never two owners: everybody is visible before he looks. Of any two who both look, the one who looked later
 * saw the other, and does not become the owner while the other is there. Of two candidates who see each other the one
 * with the smaller name waits for the other to decide, who withdraws.
 *
 *     lock/4711-Zk3v9QxT     the socket of process 4711, listening (its name is the order of candidates, too)
 *     lock/new-Zk3v9QxT      the same before it listens; renamed when it does
 *
 * A conversation: the asker says `QUESTION`, the process asked says one line of JSON and ends. To anything else it
 * says nothing.
 */
import { randomBytes } from 'node:crypto';
import * as fs from 'node:fs/promises';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { FolderLock } from './files.ts';
import { errorCode, failureText, StoreError, storeErrorOf } from './store-error.ts';

/** Name of the folder of sockets within a data folder. */
export const LOCK_FOLDER = 'lock';

/** How long a process that listens may take to say who it is, milliseconds. It has the folder also when it does not. */
const ANSWER_MS = 2000;

/** How long to wait for other candidates to decide, milliseconds. */
const DECIDE_MS = 10_000;

/** Time between two looks at other candidates, milliseconds. */
const LOOK_EVERY_MS = 10;

/** Octets of an answer or question; more is garbage. */
const LINE_BYTES_MAX = 1024;

/** How long an asker may take to ask, milliseconds. */
const QUESTION_MS = 1000;

const QUESTION = 'who has this folder?\n';

/** Longest path of a socket in octets: 104 with the final zero on macOS and the BSDs, 108 on Linux. */
const SOCKET_PATH_BYTES_MAX = 103;

const ENTRY = /^(\d{1,10})-[\w-]{8}$/;
const UNFINISHED = /^new-[\w-]{8}$/;

/** Whether a name in the folder of sockets is one of those that Warren gives. */
export function isLockName(name: string): boolean {
  return ENTRY.test(name) || UNFINISHED.test(name);
}

/** What a process says when asked. */
interface Answer {
  readonly pid: number;
  /** When it became the owner, as ISO 8601; undefined while it is a candidate. */
  readonly since: string | undefined;
}

/** Another socket in the folder that somebody listens on. */
interface Other {
  readonly name: string;
  readonly pid: number;
  /** Undefined: it did not say. */
  readonly answer: Answer | undefined;
}

/**
 * Makes this process the only one that has the data folder `path`, an existing folder. Throws StoreError when another
 * one has it, naming that one, and then leaves nothing behind; throws it too when the file system has no Unix sockets.
 */
export async function lockFolder(path: string): Promise<FolderLock> {
  const folder = join(path, LOCK_FOLDER);
  const deadline = performance.now() + DECIDE_MS;
  let made = false;
  for (;;) {
    made = (await makeLockFolder(folder)) || made;
    try {
      const reach = await reachFolder(folder);
      try {
        const lock = await attempt(path, folder, reach.path, deadline);
        if (lock !== undefined) return lock;
      } finally {
        await reach.close();
      }
    } catch (error) {
      if (made) await fs.rmdir(folder).catch(() => undefined);
      // Another one has tidied up: a socket that did not listen yet, or the folder that it had made itself.
      if (errorCode(error) !== 'ENOENT' || performance.now() > deadline) {
        throw storeErrorOf(error, 'cannot lock the data folder: trouble with', folder);
      }
    }
    if (performance.now() > deadline) {
      throw new StoreError(path, `data folder ${path} is being opened by several other processes: start only one`);
    }
    await delay(LOOK_EVERY_MS);
  }
}

/** True when it was not there. */
async function makeLockFolder(folder: string): Promise<boolean> {
  try {
    await fs.mkdir(folder, { mode: 0o700 });
    return true;
  } catch (error) {
    if (errorCode(error) === 'EEXIST' && (await fs.stat(folder)).isDirectory()) return false;
    if (errorCode(error) === 'EEXIST') {
      throw new StoreError(folder, `${folder} is not a folder, and not Warren's: move it away`);
    }
    throw storeErrorOf(error, 'cannot make', folder);
  }
}

/** A path to `folder` that is short enough for the names of sockets behind it, as long as it is not closed. */
async function reachFolder(folder: string): Promise<{ readonly path: string; close(): Promise<void> }> {
  const longest = join(folder, '4294967295-12345678');
  if (Buffer.byteLength(longest) <= SOCKET_PATH_BYTES_MAX) return { path: folder, close: async () => undefined };
  const handle = await fs.open(folder, 'r');
  const path = `/proc/self/fd/${handle.fd}`;
  try {
    await fs.access(path);
  } catch {
    await handle.close();
    const max = SOCKET_PATH_BYTES_MAX - Buffer.byteLength(longest) + Buffer.byteLength(folder) - LOCK_FOLDER.length - 1;
    throw new StoreError(
      folder,
      `the path of the data folder is too long for this system: choose one of ${max} octets`,
    );
  }
  return { path, close: () => handle.close() };
}

/**
 * One attempt to become the owner; undefined when another candidate goes first. Throws StoreError when another one is it.
 * `folder` is the folder of sockets, `reach` another path to it for use with sockets.
 */
async function attempt(
  dataFolder: string,
  folder: string,
  reach: string,
  deadline: number,
): Promise<FolderLock | undefined> {
  // First without a trace: most who are refused are refused here.
  refuseIfOwned(dataFolder, await look(folder, reach, ''));
  const candidate = new Candidate(folder);
  try {
    await candidate.publish(reach);
    if (await decide(dataFolder, folder, reach, candidate, deadline)) return candidate;
  } catch (error) {
    await candidate.release();
    throw error;
  }
  await candidate.release();
  return undefined;
}

/** Waits until `candidate` is the owner (true) or has to withdraw. Throws StoreError when another one is the owner. */
async function decide(
  dataFolder: string,
  folder: string,
  reach: string,
  candidate: Candidate,
  deadline: number,
): Promise<boolean> {
  for (;;) {
    const others = await look(folder, reach, candidate.name);
    refuseIfOwned(dataFolder, others);
    if (others.length === 0) {
      candidate.own();
      await removeDead(folder, reach, candidate.name);
      return true;
    }
    if (others.some((other) => other.name < candidate.name) || performance.now() > deadline) return false;
    await delay(LOOK_EVERY_MS);
  }
}

/** Throws StoreError when one of `others` is the owner, or does not say whether it is. */
function refuseIfOwned(dataFolder: string, others: readonly Other[]): void {
  for (const { pid, answer } of others) {
    if (answer !== undefined && answer.since === undefined) continue;
    const since = answer === undefined ? 'which does not answer' : `since ${answer.since}`;
    const whose = answer?.pid === process.pid ? 'this process' : `process ${answer?.pid ?? pid}`;
    throw new StoreError(
      dataFolder,
      `data folder ${dataFolder} is in use by ${whose} (${since}): end it first, or choose another data folder`,
    );
  }
}

/** Everybody in the folder who listens, except `own`. */
async function look(folder: string, reach: string, own: string): Promise<readonly Other[]> {
  const names = (await fs.readdir(folder)).filter((name) => ENTRY.test(name) && name !== own);
  const found = await Promise.all(
    names.map(async (name): Promise<Other | undefined> => {
      const answer = await ask(join(reach, name));
      return answer === 'dead' ? undefined : { name, pid: Number.parseInt(name, 10), answer: answerOf(answer) };
    }),
  );
  return found.filter((other) => other !== undefined);
}

/** Removes the sockets that nobody listens on. Only their owners ever listen on them, so they are dead for good. */
async function removeDead(folder: string, reach: string, own: string): Promise<void> {
  for (const name of await fs.readdir(folder)) {
    if (name === own || !isLockName(name)) continue;
    // Best effort: it costs a question at the next start.
    if ((await ask(join(reach, name))) === 'dead') await fs.unlink(join(folder, name)).catch(() => undefined);
  }
}

/**
 * What the process that listens on the socket says; `dead` when nobody listens. One that listens and ends without a word
 * may be about to die: it is asked again until `ANSWER_MS` is over.
 */
async function ask(path: string): Promise<string> {
  const deadline = performance.now() + ANSWER_MS;
  for (;;) {
    const said = await askOnce(path, deadline - performance.now());
    if (said !== '' || performance.now() >= deadline) return said;
    await delay(LOOK_EVERY_MS);
  }
}

function askOnce(path: string, timeoutMs: number): Promise<string> {
  return new Promise((resolve, reject) => {
    let said = '';
    const socket = createConnection(path);
    const timer = setTimeout(() => socket.destroy(), timeoutMs);
    let failure: Error | undefined;
    socket.setEncoding('latin1');
    socket.on('connect', () => socket.write(QUESTION));
    socket.on('data', (chunk: string) => {
      said += chunk;
      if (said.length > LINE_BYTES_MAX) socket.destroy();
    });
    socket.on('error', (error) => {
      failure = error;
    });
    socket.on('close', () => {
      clearTimeout(timer);
      const code = errorCode(failure);
      if (code === 'ECONNREFUSED' || code === 'ENOENT') resolve('dead');
      // EAGAIN: its queue of askers is full. The others: it went away in the middle.
      else if (failure === undefined || ['EAGAIN', 'ECONNRESET', 'EPIPE'].includes(code)) resolve(said);
      else reject(failure);
    });
  });
}

/** An answer read; undefined when it is none. */
function answerOf(line: string): Answer | undefined {
  try {
    const { pid, since } = JSON.parse(line) as { pid?: unknown; since?: unknown };
    if (typeof pid !== 'number' || !Number.isSafeInteger(pid)) return undefined;
    if (since === undefined) return { pid, since };
    return typeof since === 'string' && /^[\d:.TZ-]{1,40}$/.test(since) ? { pid, since } : undefined;
  } catch {
    return undefined;
  }
}

/** This process in the folder: a socket, from `publish` to `release`. */
class Candidate implements FolderLock {
  readonly name: string;
  readonly #folder: string;
  readonly #unfinished: string;
  readonly #server: Server;
  #since: string | undefined;

  constructor(folder: string) {
    const random = randomBytes(6).toString('base64url');
    this.name = `${process.pid}-${random}`;
    this.#unfinished = `new-${random}`;
    this.#folder = folder;
    this.#server = createServer((socket) => this.#answer(socket));
  }

  /** From now on everybody who looks sees this candidate. */
  async publish(reach: string): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', (error) => reject(unsupported(error, this.#folder)));
      this.#server.listen(join(reach, this.#unfinished), resolve);
    });
    // The lock is no reason for a process to live.
    this.#server.unref();
    await fs.rename(join(this.#folder, this.#unfinished), join(this.#folder, this.name));
  }

  own(): void {
    this.#since = new Date().toISOString();
  }

  async release(): Promise<void> {
    for (const name of [this.name, this.#unfinished]) {
      await fs.unlink(join(this.#folder, name)).catch(() => undefined);
    }
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
  }

  #answer(socket: Socket): void {
    let asked = '';
    socket.unref();
    socket.setEncoding('latin1');
    socket.setTimeout(QUESTION_MS, () => socket.destroy());
    socket.on('error', () => socket.destroy());
    socket.on('data', (chunk: string) => {
      asked += chunk;
      if (asked === QUESTION) socket.end(`${JSON.stringify({ pid: process.pid, since: this.#since })}\n`);
      else if (!QUESTION.startsWith(asked)) socket.destroy();
    });
  }
}

/** What a file system says that has no Unix sockets; and what to do. */
function unsupported(error: Error, folder: string): Error {
  if (!['EOPNOTSUPP', 'ENOTSUP', 'ENOSYS', 'EPERM', 'EINVAL'].includes(errorCode(error))) return error;
  return new StoreError(
    folder,
    `cannot lock the data folder: the file system of ${folder} has no Unix sockets (${failureText(error)}): ` +
      'choose a data folder on a local file system, in a container a volume instead of a folder of the host',
    error,
  );
}
