//! What every view must be, however it looks: readable, large enough for a finger, never wider than the screen.

use serde_json::Value;

use crate::browser::Browser;

/// Texts whose contrast with what lies behind them is below WCAG 2.2's level AA: 4.5, or 3 for large ones.
const FAINT: &str = r"(() => {
    const channel = (value) => { const part = value / 255; return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4; };
    const parse = (text) => { const found = text.match(/[\d.]+/g).map(Number); return { rgb: found.slice(0, 3), alpha: found.length > 3 ? found[3] : 1 }; };
    const light = (rgb) => 0.2126 * channel(rgb[0]) + 0.7152 * channel(rgb[1]) + 0.0722 * channel(rgb[2]);
    const behind = (element) => {
        for (let one = element; one; one = one.parentElement) {
            const back = parse(getComputedStyle(one).backgroundColor);
            if (back.alpha === 1) return back.rgb;
        }
        return matchMedia('(prefers-color-scheme: dark)').matches ? [0, 0, 0] : [255, 255, 255];
    };
    const found = [];
    for (const one of document.querySelectorAll('body *')) {
        const box = one.getBoundingClientRect();
        const says = [...one.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
        const shows = one.placeholder && !one.value;
        if (!(says || shows) || !box.width || !box.height || one.closest('[disabled], noscript, svg, .skip')) continue;
        const style = getComputedStyle(one, shows ? '::placeholder' : null);
        const size = parseFloat(style.fontSize);
        const is_large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
        const [a, b] = [light(parse(style.color).rgb), light(behind(one))].sort((x, y) => y - x);
        const ratio = (a + 0.05) / (b + 0.05);
        if (ratio < (is_large ? 3 : 4.5)) found.push(`${one.tagName}.${one.className} ${ratio.toFixed(2)}: ${(one.textContent || one.placeholder).trim().slice(0, 40)}`);
    }
    return found;
})()";

/// What is touched and smaller than 44 pixels (WCAG 2.2, target size, enhanced). Names within a text that are copied by a touch
/// are part of the text.
const SMALL: &str = r"[...document.querySelectorAll('button:not(.id), a.button, nav a, select, textarea, summary, .tick, input:not([type=checkbox])')]
    .map((one) => [one, one.getBoundingClientRect()])
    .filter(([one, box]) => box.height > 0 && (box.height < 43.9 || box.width < 43.9))
    .map(([one, box]) => `${one.tagName} ${one.textContent.trim().slice(0, 30)}: ${Math.round(box.width)} × ${Math.round(box.height)}`)";

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
}

/// Looks at what is shown now.
pub(crate) async fn is_usable(browser: &mut Browser, what: &str, width: u32) {
    let wide = browser.value("document.documentElement.scrollWidth").await.as_u64().unwrap();
    assert!(wide <= u64::from(width), "{what} is {wide} wide on a screen of {width}");
    let faint = texts(&browser.value(FAINT).await);
    assert!(faint.is_empty(), "{what}: {faint:#?}");
    let small = texts(&browser.value(SMALL).await);
    assert!(small.is_empty(), "{what}: {small:#?}");
}
