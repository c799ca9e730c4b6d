/** Frames as octets, from text, for everything but messages; and as a line of text, for the trace. */
import { escapeText, linesFor, type Version } from './escapes.ts';
import { commandName, type FrameHead } from './frame-head.ts';

/** A frame that the server sends, other than MESSAGE; `version` says how its headers are written. */
export function encodeFrame(
  command: 'CONNECTED' | 'RECEIPT' | 'ERROR' | 'MESSAGE',
  headers: { readonly [name: string]: string | undefined },
  body = '',
  version: Version = 12,
): Buffer {
  let lines = '';
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined) continue;
    // CONNECTED is never escaped; a line feed would end its header.
    lines +=
      command === 'CONNECTED'
        ? `${name}:${value.replace(/[\r\n]/g, ' ')}\n`
        : `${escapeText(name)}:${escapeText(value)}\n`;
  }
  if (body !== '') lines += `content-length:${Buffer.byteLength(body)}\n`;
  return Buffer.from(`${command}\n${command === 'CONNECTED' ? lines : linesFor(lines, version)}\n${body}\0`);
}

/** A received frame in a line: its command and headers, no passcode, and how long its body is. */
export function describeFrame(head: FrameHead, bodyBytes: number): string {
  let line = commandName(head.command) as string;
  for (const [name, value] of head.table()) line += ` ${name}=${name === 'passcode' ? '***' : JSON.stringify(value)}`;
  return bodyBytes > 0 ? `${line} (${bodyBytes} octets)` : line;
}
