// Guards against a language that Intl does not accept, before anything else runs. Under LANG=C or C.UTF-8 WebKitGTK
// calls the language "C" and every Intl constructor throws. Figures and dates on screen are formatted by format.ts,
// which needs no Intl; this keeps libraries safe too.

/** Whether Intl takes this language tag. */
export function isUsable(language: string): boolean {
  try {
    return Intl.getCanonicalLocales(language).length > 0 && new Intl.NumberFormat(language).format(1) !== "";
  } catch {
    return false;
  }
}

/** Replaces the navigator's languages by English where Intl does not take them. */
export function guardLocale(target: Navigator): void {
  const languages = target.languages.filter(isUsable);
  if (isUsable(target.language) && languages.length === target.languages.length) return;
  const usable = languages.length > 0 ? languages : ["en-US"];
  Object.defineProperty(target, "language", { configurable: true, get: () => usable[0] });
  Object.defineProperty(target, "languages", { configurable: true, get: () => usable });
  document.documentElement.lang = "en";
}

guardLocale(navigator);
