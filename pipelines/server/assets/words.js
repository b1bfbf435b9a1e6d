// What the pages say, in every language that they have. A key that one lacks is a mistake that a test finds.

export const WORDS = {
  en: {
    skip: "Skip to content", fleet: "Fleet", alerts: "Alerts", models: "Models", tables: "Tables", sql: "SQL",
    theme_dark: "Dark", theme_light: "Light", language: "Language",
    live: "live", lost: "no answer", epoch: "epoch", machines: "Machines", open_alerts: "Open alerts", critical: "Critical",
    unacknowledged: "Not acknowledged", filter: "Filter", view: "View", no_views: "This pipeline has no views yet. A view of the latest rows of each machine fills this page:",
    nothing: "Nothing to show.", rows: "rows", next: "Next page", first: "First page", state: "State", severity: "Severity",
    rule: "Rule", machine: "Machine", raised: "Raised", cleared: "Cleared", message: "Message", acknowledged: "Acknowledged",
    all: "all", open: "open", ack: "Acknowledge", comment: "Comment", shelve: "Shelve", by: "Your name", until: "Until",
    text: "Comment", cancel: "Cancel", send: "Send", evidence: "Evidence", no_alerts: "No alerts.", no_book: "This pipeline has no alerts.",
    run: "Run", run_hint: "Ctrl+Enter runs it", csv: "Download CSV", chart: "Chart", truncated: "more rows than shown",
    no_models: "No model of this pipeline can be changed while it runs.", version: "Version", acts: "acts", score_rows: "Rows acted on",
    activate: "Let it act", rollback: "Roll back", sure: "Let version {0} of '{1}' act from the next epoch on?",
    history: "History", column: "Column", stream: "Stream", span: "Span", hour: "last hour", day: "last day", week: "last week", everything: "everything",
    back: "All machines", no_history: "No stream of this machine is kept in a Parquet folder of this engine, so there is no history to draw.",
    token: "This pipeline asks for a token", token_hint: "It is kept in this tab until it is closed.", actions: "Actions", good: "no alert", not_found: "There is no such page.",
    pipeline: "Pipeline", graph: "What flows where", sources: "Sources", steps: "Steps", sinks: "Sinks", dead_letters: "Rows that could not be used", per_second: "rows a second",
    is_running: "running", is_starting: "starting", is_held_up: "held up", login: "Log in", name: "Name", password: "Password", logout: "Log out",
    or_token: "or show a token", login_hint: "An administrator makes accounts: foreline user add",
    s1: "info", s2: "minor", s3: "warning", s4: "major", s5: "critical", failed: "failed", now: "now",
  },
  ko: {
    skip: "본문으로 건너뛰기", fleet: "설비 현황", alerts: "알람", models: "모델", tables: "테이블", sql: "SQL",
    theme_dark: "어둡게", theme_light: "밝게", language: "언어",
    live: "실시간", lost: "응답 없음", epoch: "에포크", machines: "설비", open_alerts: "열린 알람", critical: "심각",
    unacknowledged: "미확인", filter: "검색", view: "뷰", no_views: "아직 뷰가 없습니다. 설비별 최신 행을 담는 뷰를 추가하면 이 화면이 채워집니다:",
    nothing: "표시할 내용이 없습니다.", rows: "행", next: "다음 쪽", first: "처음", state: "상태", severity: "심각도",
    rule: "규칙", machine: "설비", raised: "발생", cleared: "해제", message: "내용", acknowledged: "확인",
    all: "전체", open: "열림", ack: "확인", comment: "의견", shelve: "보류", by: "이름", until: "기한",
    text: "의견", cancel: "취소", send: "보내기", evidence: "근거", no_alerts: "알람이 없습니다.", no_book: "이 파이프라인에는 알람이 없습니다.",
    run: "실행", run_hint: "Ctrl+Enter로 실행", csv: "CSV 내려받기", chart: "차트", truncated: "표시된 것보다 행이 더 있음",
    no_models: "실행 중에 바꿀 수 있는 모델이 없습니다.", version: "버전", acts: "적용 중", score_rows: "처리한 행",
    activate: "적용", rollback: "되돌리기", sure: "다음 에포크부터 '{1}'의 버전 {0}을(를) 적용할까요?",
    history: "이력", column: "열", stream: "스트림", span: "기간", hour: "최근 1시간", day: "최근 1일", week: "최근 1주", everything: "전체",
    back: "모든 설비", no_history: "이 설비의 스트림이 Parquet 폴더에 저장되지 않아 그릴 이력이 없습니다.",
    token: "이 파이프라인은 토큰이 필요합니다", token_hint: "이 탭을 닫을 때까지만 보관합니다.", actions: "작업", good: "알람 없음", not_found: "그런 화면은 없습니다.",
    pipeline: "파이프라인", graph: "데이터 흐름", sources: "소스", steps: "단계", sinks: "싱크", dead_letters: "사용하지 못한 행", per_second: "초당 행",
    is_running: "실행 중", is_starting: "시작 중", is_held_up: "멈춰 있음", login: "로그인", name: "이름", password: "비밀번호", logout: "로그아웃",
    or_token: "또는 토큰 입력", login_hint: "계정은 관리자가 만듭니다: foreline user add",
    s1: "정보", s2: "경미", s3: "경고", s4: "중대", s5: "심각", failed: "실패", now: "지금",
  },
};

const KEY = "foreline-language";
export let language = localStorage.getItem(KEY) ?? (navigator.language.startsWith("ko") ? "ko" : "en");

export function choose(next) {
  language = next in WORDS ? next : "en";
  localStorage.setItem(KEY, language);
  document.documentElement.lang = language;
}

/** The words of a key, with what stands in the places {0}, {1}. */
export function say(key, ...values) {
  const text = WORDS[language][key] ?? key;
  return values.reduce((text, value, i) => text.replace(`{${i}}`, value), text);
}

const numbers = () => new Intl.NumberFormat(language, { maximumSignificantDigits: 6 });
const times = () => new Intl.DateTimeFormat(language, { dateStyle: "short", timeStyle: "medium" });

/** A value as people read it. */
export function shown(value, type = "") {
  if (value === null || value === undefined) return "—";
  if (typeof value === "number") return numbers().format(value);
  if (type.startsWith("timestamp") || /^\d{4}-\d\d-\d\dT\d\d:\d\d/.test(value)) {
    const time = new Date(value);
    return Number.isNaN(time.getTime()) ? String(value) : times().format(time);
  }
  if (Array.isArray(value)) return `[${value.length}]`;
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
