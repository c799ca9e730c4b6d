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
 * Only the kernel that a process listens with knows its sockets. On a file system that several machines may have mounted,
 * a socket of another machine that nobody here listens on says nothing: then the folder is refused, and a person decides.
 *
 *     lock/4711-Zk3v9QxTa7Hq_d     the socket of process 4711, listening; the order of names is that of candidates. The
 *                                  characters: 4 of the boot of its machine, 4 of the host's name, 6 of chance
 *     lock/new-Zk3v9QxTa7Hq_d      the same before it listens; renamed when it does
 *
 * A conversation: the asker says `QUESTION`, the process asked says one line of JSON and ends. To anything else it
 * says nothing.
 */
import { createHash, randomBytes } from 'node:crypto';
import * as fs from 'node:fs/promises';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { errorCode, failureText, printable, StoreError, storeErrorOf } from '../store-error.ts';
import type { FolderLock } from './files.ts';

/** Name of the folder of sockets within a data folder. */
export const LOCK_FOLDER = 'lock';

/** What a lock depends on; tests put other things in their place. */
export interface LockSurroundings {
  /** How long a process that listens may take to say who it is, milliseconds. It has the folder also when it does not. */
  readonly answerMs: number;
  /** What differs between two runs of the operating system, on this machine or another. */
  boot(): Promise<string>;
  /** Name of this machine or container. */
  readonly host: string;
  /** Whether other machines may have the file system of a folder mounted too. */
  isShared(folder: string): Promise<boolean>;
  /** Where the descriptors of this process can be reached as files. */
  readonly descriptorFolder: string;
}

/** How long to wait for other candidates to decide, milliseconds. */
const DECIDE_MS = 10_000;

/** Time between two looks at other candidates, milliseconds. */
const LOOK_EVERY_MS = 10;

/** Octets of an answer; more is garbage. */
const ANSWER_BYTES_MAX = 1024;

/** How long an asker may take to ask, milliseconds. */
const QUESTION_MS = 1000;

const QUESTION = 'who has this folder?\n';

/** Longest path of a socket in octets: 104 with the final zero on macOS and the BSDs, 108 on Linux. */
const SOCKET_PATH_BYTES_MAX = 103;

const NAME = /^(?:new|\d{1,10})-(?<boot>[\w-]{4})(?<host>[\w-]{4})[\w-]{6}$/;
const LONGEST_NAME = '4294967295-bbbbhhhhrrrrrr';

/** Numbers of the file systems that more than one machine may have mounted, from Linux's magic.h and manuals. */
const SHARED_FILE_SYSTEMS: ReadonlySet<number> = new Set([
  0x6969, // NFS
  0x517b, // SMB
  0xff534d42, // CIFS
  0xfe534d42, // SMB 2
  0x01021997, // 9P
  0x65735546, // FUSE: whatever is behind it
  0x00c36400, // Ceph
  0x5346414f, // AFS
  0x73757245, // Coda
  0x01161970, // GFS2
  0x7461636f, // OCFS2
  0x0bd00bd0, // Lustre
  0x47504653, // GPFS
]);

const SURROUNDINGS: LockSurroundings = {
  answerMs: 2000,
  host: hostname(),
  boot: () => fs.readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => ''),
  isShared: async (folder) => SHARED_FILE_SYSTEMS.has((await fs.statfs(folder)).type >>> 0),
  descriptorFolder: '/proc/self/fd',
};

/** Whether a name in the folder of sockets is one of those that Warren gives. */
export function isLockName(name: string): boolean {
  return NAME.test(name);
}

/**
 * Makes this process the only one that has the data folder `path`, an existing folder. Throws StoreError when another
 * one has it, naming that one, and then leaves nothing behind; throws it too when the file system has no Unix sockets.
 */
export async function lockFolder(path: string, surroundings: Partial<LockSurroundings> = {}): Promise<FolderLock> {
  const around: LockSurroundings = { ...SURROUNDINGS, ...surroundings };
  const folder = join(path, LOCK_FOLDER);
  const deadline = performance.now() + DECIDE_MS;
  let made = false;
  for (;;) {
    made = (await makeLockFolder(folder)) || made;
    try {
      const lock = await attempt(path, folder, around, deadline);
      if (lock !== undefined) return lock;
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

/**
 * One attempt to become the owner; undefined when another candidate goes first. Throws StoreError when another one is it.
 */
async function attempt(
  path: string,
  folder: string,
  around: LockSurroundings,
  deadline: number,
): Promise<FolderLock | undefined> {
  const reach = await reachFolder(folder, around);
  const boot = (await around.boot()) || around.host;
  // A name that many machines have tells nothing.
  const host = around.host === 'localhost' ? boot : around.host;
  const sockets = new LockSockets(path, folder, reach.path, around, `${brief(boot)}${brief(host)}`);
  try {
    // First without a trace: most who are refused are refused here.
    await sockets.look('');
    const candidate = new Candidate(sockets);
    try {
      await candidate.publish();
      if (await decide(sockets, candidate, deadline)) return candidate;
    } catch (error) {
      await candidate.release();
      throw error;
    }
    await candidate.release();
    return undefined;
  } finally {
    await reach.close();
  }
}

/** Waits until `candidate` is the owner (true) or has to withdraw. Throws StoreError when another one is the owner. */
async function decide(sockets: LockSockets, candidate: Candidate, deadline: number): Promise<boolean> {
  for (;;) {
    const others = await sockets.look(candidate.name);
    if (others.length === 0) {
      candidate.own();
      await sockets.removeDead(candidate.name);
      return true;
    }
    if (others.some((other) => other < candidate.name) || performance.now() > deadline) return false;
    await delay(LOOK_EVERY_MS);
  }
}

/** Four characters that stand for `text`. */
function brief(text: string): string {
  return createHash('sha256').update(text).digest('base64url').slice(0, 4);
}

/** A path to `folder` that is short enough for the names of sockets behind it, until it is closed. */
async function reachFolder(
  folder: string,
  around: LockSurroundings,
): Promise<{ readonly path: string; close(): Promise<void> }> {
  const isShort = (path: string): boolean => Buffer.byteLength(join(path, LONGEST_NAME)) <= SOCKET_PATH_BYTES_MAX;
  if (isShort(folder)) return { path: folder, close: async () => undefined };
  const handle = await fs.open(folder, 'r');
  const descriptor = join(around.descriptorFolder, String(handle.fd));
  if ((await fs.stat(descriptor).catch(() => undefined))?.isDirectory()) {
    return { path: descriptor, close: () => handle.close() };
  }
  await handle.close();
  const shortcuts = await fs.mkdtemp(join(tmpdir(), 'w-'));
  const shortcut = join(shortcuts, 'l');
  if (!isShort(shortcut)) {
    await fs.rmdir(shortcuts);
    throw new StoreError(
      folder,
      `the paths of ${folder} and of ${tmpdir()} are too long for Unix sockets: choose a shorter one`,
    );
  }
  await fs.symlink(folder, shortcut);
  return { path: shortcut, close: () => fs.rm(shortcuts, { recursive: true }) };
}

/** What a process says when asked. */
interface Answer {
  readonly pid: number;
  readonly host: string;
  /** When it became the owner, as ISO 8601; undefined while it is a candidate. */
  readonly since: string | undefined;
}

/** The folder of sockets, as one who wants to have the data folder sees it. */
class LockSockets {
  readonly dataFolder: string;
  readonly folder: string;
  /** Another path to it, for use with sockets. */
  readonly reach: string;
  readonly around: LockSurroundings;
  /** The characters of this boot and this host in names. */
  readonly machine: string;

  constructor(dataFolder: string, folder: string, reach: string, around: LockSurroundings, machine: string) {
    this.dataFolder = dataFolder;
    this.folder = folder;
    this.reach = reach;
    this.around = around;
    this.machine = machine;
  }

  /** The names of all other candidates but `own`. Throws StoreError when there is an owner, or may be one. */
  async look(own: string): Promise<readonly string[]> {
    const names = (await fs.readdir(this.folder)).filter(
      (name) => NAME.test(name) && !name.startsWith('new-') && name !== own,
    );
    const are = await Promise.all(names.map((name) => this.#isCandidate(name)));
    return names.filter((_, index) => are[index]);
  }

  /** Removes the sockets that nobody listens on: those who made them are gone. */
  async removeDead(own: string): Promise<void> {
    for (const name of await fs.readdir(this.folder)) {
      if (name === own || !NAME.test(name) || !(await this.#knowsAbout(name))) continue;
      const path = join(this.folder, name);
      const isSocket = (await fs.lstat(path).catch(() => undefined))?.isSocket() === true;
      // Best effort: it costs a question at the next start. A live one that does not listen yet tries again.
      if (isSocket && (await this.#ask(name)) === 'dead') await fs.unlink(path).catch(() => undefined);
    }
  }

  /** True for a candidate, false for a dead one. Throws StoreError for an owner, and for what may be one. */
  async #isCandidate(name: string): Promise<boolean> {
    const said = await this.#ask(name);
    const pid = Number.parseInt(name, 10);
    if (said === 'dead') {
      if (await this.#knowsAbout(name)) return false;
      throw new StoreError(
        this.dataFolder,
        `data folder ${this.dataFolder} may be in use by process ${pid} of another machine, which cannot be asked from ` +
          `here: end it first; if there is none, remove ${join(this.folder, name)}`,
      );
    }
    const answer = answerOf(said);
    if (answer !== undefined && answer.since === undefined) return true;
    const since = answer === undefined ? 'which does not answer' : `since ${answer.since}`;
    const where = answer === undefined || answer.host === this.around.host ? '' : ` on host ${answer.host}`;
    throw new StoreError(
      this.dataFolder,
      `data folder ${this.dataFolder} is in use by process ${answer?.pid ?? pid}${where} (${since}): ` +
        'end it first, or choose another data folder',
    );
  }

  /** Whether this kernel would know of it if somebody listened on the socket. */
  async #knowsAbout(name: string): Promise<boolean> {
    const { boot, host } = NAME.exec(name)?.groups ?? {};
    if (this.machine.startsWith(boot ?? '') || this.machine.endsWith(host ?? '')) return true;
    return !(await this.around.isShared(this.folder));
  }

  /**
   * What the process that listens on the socket says; `dead` when nobody listens. One that listens and ends without a
   * word may be about to die: it is asked again until its time is over.
   */
  async #ask(name: string): Promise<string> {
    const deadline = performance.now() + this.around.answerMs;
    for (;;) {
      const said = await ask(join(this.reach, name), Math.max(0, deadline - performance.now()));
      if (said !== '' || performance.now() >= deadline) return said;
      await delay(LOOK_EVERY_MS);
    }
  }
}

function ask(path: string, timeoutMs: number): Promise<string> {
  return new Promise((resolve, reject) => {
    let said = '';
    const socket = createConnection(path);
    const timer = setTimeout(() => socket.destroy(), timeoutMs);
    let failure: Error | undefined;
    socket.setEncoding('latin1');
    socket.on('connect', () => socket.write(QUESTION));
    socket.on('data', (chunk: string) => {
      said += chunk;
      if (said.length > ANSWER_BYTES_MAX) socket.destroy();
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
    const { pid, host, since } = JSON.parse(line) as { pid?: unknown; host?: unknown; since?: unknown };
    if (typeof pid !== 'number' || !Number.isSafeInteger(pid) || typeof host !== 'string') return undefined;
    if (since !== undefined && typeof since !== 'string') return undefined;
    return { pid, host: printable(host), since: since && printable(since) };
  } catch {
    return undefined;
  }
}

/** This process in the folder: a socket, from `publish` to `release`. */
class Candidate implements FolderLock {
  readonly name: string;
  readonly #sockets: LockSockets;
  readonly #unfinished: string;
  readonly #server: Server;
  #since: string | undefined;

  constructor(sockets: LockSockets) {
    const rest = `${sockets.machine}${randomBytes(5).toString('base64url').slice(0, 6)}`;
    this.name = `${process.pid}-${rest}`;
    this.#unfinished = `new-${rest}`;
    this.#sockets = sockets;
    this.#server = createServer((socket) => this.#answer(socket));
  }

  /** From now on everybody who looks sees this candidate. */
  async publish(): Promise<void> {
    const { folder, reach } = this.#sockets;
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', (error) => reject(unsupported(error, folder)));
      this.#server.listen(join(reach, this.#unfinished), resolve);
    });
    // The lock is no reason for a process to live.
    this.#server.unref();
    await fs.rename(join(folder, this.#unfinished), join(folder, this.name));
  }

  own(): void {
    this.#since = new Date().toISOString();
  }

  async release(): Promise<void> {
    for (const name of [this.name, this.#unfinished]) {
      await fs.unlink(join(this.#sockets.folder, name)).catch(() => undefined);
    }
    // Without its name nobody finds it: whoever is connected need not be waited for.
    this.#server.close();
  }

  #answer(socket: Socket): void {
    let asked = '';
    socket.unref();
    socket.setEncoding('latin1');
    socket.setTimeout(QUESTION_MS, () => socket.destroy());
    socket.on('error', () => socket.destroy());
    socket.on('data', (chunk: string) => {
      asked += chunk;
      if (asked === QUESTION) socket.end(`${JSON.stringify(this.#whoami())}\n`);
      else if (!QUESTION.startsWith(asked)) socket.destroy();
    });
  }

  #whoami(): Answer {
    return { pid: process.pid, host: this.#sockets.around.host, since: this.#since };
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
