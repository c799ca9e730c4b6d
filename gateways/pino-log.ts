/**
 * Where the log goes: standard error, so that standard output keeps to what was asked for. A person at a terminal gets
 * a line of text for each event, a collector of logs one of JSON. Lines are written without waiting for whoever reads
 * them; what a reader that has stopped would make us keep is dropped beyond `BACKLOG_BYTES_MAX`.
 */
import { isatty } from 'node:tty';
import { type DestinationStream, destination, levels, pino } from 'pino';
import type { Log } from './log.ts';

interface LogOptions {
  readonly level: keyof Log;
  /** `auto`: text when standard error is a terminal, JSON otherwise. */
  readonly format: 'auto' | 'text' | 'json';
}

/** Octets kept for a reader of the log that has stopped reading. */
const BACKLOG_BYTES_MAX = 4 * 1024 * 1024;

/** Longest wait at the end for a reader of the log that has stopped reading. */
const FLUSH_MS_MAX = 500;

const STDERR = 2;

/** A log, and how to have all of it written before the process ends. */
export interface ProcessLog extends Log {
  /**
   * Ends the log. Resolves when all has been written, or cannot be, or nobody has read it for `FLUSH_MS_MAX`. Never
   * rejects. What is logged afterwards is lost.
   */
  close(): Promise<void>;
}

/** Opens the log of the process. */
export function openLog(options: LogOptions): ProcessLog {
  const output = destination({ fd: STDERR, sync: false, maxLength: BACKLOG_BYTES_MAX });
  // A log that cannot be written (a full disk, a reader gone) is no reason to stop serving.
  output.on('error', () => {});
  const asText = options.format === 'text' || (options.format === 'auto' && isatty(STDERR));
  const stream: DestinationStream = asText ? { write: (line) => void output.write(textLine(line)) } : output;
  const logger = pino({ level: options.level, base: { pid: process.pid } }, stream);
  return {
    error: (fields, message) => logger.error(fields, message),
    warn: (fields, message) => logger.warn(fields, message),
    info: (fields, message) => logger.info(fields, message),
    debug: (fields, message) => logger.debug(fields, message),
    close: async () => {
      await new Promise<void>((resolve) => {
        output.once('close', () => resolve()).once('error', () => resolve());
        setTimeout(resolve, FLUSH_MS_MAX);
        output.end();
      });
      // Or it would try to write the rest as the process exits, for ever where that cannot be.
      output.destroy();
    },
  };
}

/**
 * A line of JSON as a person reads it: `22:14:05.123 warn  connections refused … port=5672 refused=3`, an error's stack
 * below.
 */
export function textLine(json: string): string {
  const { time, level, pid: _pid, msg, err, ...fields }: Record<string, unknown> = JSON.parse(json);
  const clock = new Date(Number(time)).toISOString().slice(11, 23);
  const label = levels.labels[Number(level)] ?? String(level);
  const pairs = Object.entries(fields).map(([name, value]) => ` ${name}=${fieldText(value)}`);
  // Peers have a say in some messages: none of it may pass for another line or for a terminal's commands.
  const message = String(msg).replaceAll(
    /\p{Cc}/gu,
    (control) => `\\x${control.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
  return `${clock} ${label.padEnd(5)} ${message}${pairs.join('')}${errorText(err)}\n`;
}

function fieldText(value: unknown): string {
  if (typeof value === 'string') return /^[^\s"=]+$/.test(value) ? value : JSON.stringify(value);
  return JSON.stringify(value);
}

function errorText(error: unknown): string {
  if (typeof error !== 'object' || error === null) return '';
  const text = 'stack' in error ? error.stack : JSON.stringify(error);
  return `\n  ${String(text).replaceAll('\n', '\n  ')}`;
}
