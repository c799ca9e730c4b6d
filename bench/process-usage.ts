/** What processes use, from Linux's /proc: CPU time with all threads, resident memory, and what the machine did besides. */
import { readdirSync, readFileSync } from 'node:fs';

/** Clock ticks per second in /proc; a constant of every Linux ABI that Node runs on. */
const TICKS_PER_SECOND = 100;

/** A process and all its descendants, as they were when this was made. */
export class ProcessTree {
  readonly #pids: readonly number[];

  /** Throws where there is no /proc or no such process. */
  constructor(pid: number) {
    const parents = new Map<number, number>();
    for (const name of readdirSync('/proc')) {
      if (/^\d+$/.test(name)) parents.set(Number(name), parentOf(name));
    }
    if (!parents.has(pid)) throw new Error(`no process ${pid} in /proc`);
    const isOurs = (candidate: number): boolean => {
      for (let at: number | undefined = candidate; at !== undefined && at > 0; at = parents.get(at)) {
        if (at === pid) return true;
      }
      return false;
    };
    this.#pids = [...parents.keys()].filter(isOurs);
  }

  /** User and system time so far, in seconds, to a hundredth. */
  cpuSeconds(): number {
    let ticks = 0;
    for (const pid of this.#pids) {
      const fields = statFields(String(pid));
      ticks += Number(fields[11] ?? 0) + Number(fields[12] ?? 0);
    }
    return ticks / TICKS_PER_SECOND;
  }

  /** Octets that it has had written to disks so far; NaN where the kernel does not say. */
  writtenBytes(): number {
    let bytes = 0;
    for (const pid of this.#pids) bytes += Number(/^write_bytes: (\d+)/m.exec(readIfThere(`/proc/${pid}/io`))?.[1]);
    return bytes;
  }

  /** Resident memory in octets. */
  rssBytes(): number {
    let kibibytes = 0;
    for (const pid of this.#pids) {
      const status = readIfThere(`/proc/${pid}/status`);
      kibibytes += Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0);
    }
    return kibibytes * 1024;
  }
}

/** Time that all processors together have worked (idle and waiting for disks excluded) since boot, in seconds. */
export function machineBusySeconds(): number {
  const [user, nice, system, , , irq, softirq, steal] = readFileSync('/proc/stat', 'latin1')
    .split('\n', 1)
    .join('')
    .replace(/^cpu\s+/, '')
    .split(' ')
    .map(Number);
  const ticks = [user, nice, system, irq, softirq, steal];
  return ticks.reduce<number>((sum, value) => sum + (value ?? 0), 0) / TICKS_PER_SECOND;
}

function parentOf(pid: string): number {
  return Number(statFields(pid)[1] ?? 0);
}

/** The fields of /proc/PID/stat after the name, which may itself hold spaces: [0] is the state, [11] and [12] the times. */
function statFields(pid: string): string[] {
  const text = readIfThere(`/proc/${pid}/stat`);
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}

/** '' for a process that has gone in the meantime. */
function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ESRCH')) return '';
    throw error;
  }
}
