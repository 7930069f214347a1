// How a key combination is written on this system.

const isApple = /mac|iphone|ipad/i.test(navigator.platform);

/** "Ctrl+K", or "⌘K" on an Apple keyboard. */
export function keyName(key: string): string {
  return isApple ? `⌘${key}` : `Ctrl+${key}`;
}
