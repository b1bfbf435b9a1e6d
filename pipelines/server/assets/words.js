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
    column: "Column", stream: "Stream", span: "Span", hour: "last hour", day: "last day", week: "last week", everything: "everything",
    back: "All machines", no_history: "No stream of this machine is kept in a Parquet folder of this engine, so there is no history to draw.",
    token: "This pipeline asks for a token", token_hint: "It is kept in this tab until it is closed.", actions: "Actions", good: "no alert", not_found: "There is no such page.",
    pipeline: "Pipeline", graph: "What flows where", sources: "Sources", steps: "Steps", sinks: "Sinks", dead_letters: "Rows that could not be used", per_second: "rows a second",
    is_running: "running", is_starting: "starting", is_held_up: "held up", login: "Log in", name: "Name", password: "Password", logout: "Log out",
    or_token: "or show a token", login_hint: "An administrator makes accounts: foreline user add",
    diagnoses: "Diagnoses", cost: "Cost", admin: "Admin", time: "Time", waveform: "Waveform", spectrum: "Spectrum", frequency: "Frequency", amplitude: "Amplitude",
    minute: "last minute", nearer: "Look nearer", whole: "Whole stretch", peak: "highest line at {0} Hz, lines {1} Hz apart", life: "Remaining life", why: "Why this score",
    why_hint: "What each feature adds to the score of the last row, or takes from it; the greatest ten.", no_spectrum: "Too few samples for a spectrum: look at a longer stretch.",
    waveform_hint: "{0} points, of each stretch the least and the greatest. Draw a stretch with the mouse to look nearer; a double click goes back.",
    table: "Table", class: "Class", timeline: "Timeline", from: "From", to: "To", rows_below: "Rows", before: "Previous page",
    timeline_hint: "A lane a machine. Point at a stretch, or go there with Tab and the arrow keys, to read it.", more_lanes: "There is more than is drawn: {0} machines are shown. Choose a machine, or a shorter time.",
    no_diagnoses: "No table has classes over time. A stream with a text or whole-number column such as diagnosis, and keep or a Parquet sink, fills this page.",
    cost_total: "in all", cost_now: "in the rows that stand now", by_machine: "By machine", by_day: "By day", dearest: "The {0} dearest machines are drawn.",
    no_cost: "No table has a column whose name ends in _cost. A step that derives one fills this page:",
    users: "Users", invitations: "Invitations", tokens: "Tokens", audit: "Audit log", role: "Role", created: "Made", active: "active", disabled: "switched off", enable: "Switch on", disable: "Switch off",
    new_password: "Password (ten characters or more)", add_user: "Add user", invite: "Make an invitation", copy: "Copy", copied: "Copied",
    invitation_hint: "With a link somebody makes an account of their own, once, within seven days.", invitation_once: "This link is shown this once. It is good until {0}.",
    scopes: "Scopes", expires: "Until", never: "without end", revoke: "Revoke", days: "Days", make_token: "Make a token", token_once: "This token is shown this once.",
    sure_disable: "Switch the account of {0} off?", sure_revoke: "Revoke the token {0}? Whoever uses it is locked out at once.",
    newer: "Newer", older: "Older", when: "When", who: "Who", address: "From", what: "What", object: "With what", outcome: "Outcome",
    role_viewer: "viewer", role_operator: "operator", role_engineer: "engineer", role_admin: "admin", signup: "Make an account", invited: "You are invited. Choose a name and a password.",
    model: "Model", shadowed: "Rows as a shadow", shadow_failed: "Failed as a shadow", compared: "Champion and challenger", figure: "Figure", champion: "Champion", challenger: "Challenger", difference: "Difference",
    compared_hint: "Of the same rows. Views with columns such as rmse and challenger_rmse stand here.",
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
    column: "열", stream: "스트림", span: "기간", hour: "최근 1시간", day: "최근 1일", week: "최근 1주", everything: "전체",
    back: "모든 설비", no_history: "이 설비의 스트림이 Parquet 폴더에 저장되지 않아 그릴 이력이 없습니다.",
    token: "이 파이프라인은 토큰이 필요합니다", token_hint: "이 탭을 닫을 때까지만 보관합니다.", actions: "작업", good: "알람 없음", not_found: "그런 화면은 없습니다.",
    pipeline: "파이프라인", graph: "데이터 흐름", sources: "소스", steps: "단계", sinks: "싱크", dead_letters: "사용하지 못한 행", per_second: "초당 행",
    is_running: "실행 중", is_starting: "시작 중", is_held_up: "멈춰 있음", login: "로그인", name: "이름", password: "비밀번호", logout: "로그아웃",
    or_token: "또는 토큰 입력", login_hint: "계정은 관리자가 만듭니다: foreline user add",
    diagnoses: "진단", cost: "비용", admin: "관리", time: "시각", waveform: "파형", spectrum: "스펙트럼", frequency: "주파수", amplitude: "진폭",
    minute: "최근 1분", nearer: "확대", whole: "전체 구간", peak: "최고 성분 {0} Hz, 분해능 {1} Hz", life: "잔여 수명", why: "점수의 이유",
    why_hint: "마지막 행의 점수에 각 특징이 더하거나 뺀 값입니다. 큰 것부터 열 개입니다.", no_spectrum: "스펙트럼을 구하기에는 샘플이 너무 적습니다. 더 긴 구간을 선택하세요.",
    waveform_hint: "점 {0}개. 각 구간의 최솟값과 최댓값입니다. 마우스로 구간을 끌면 확대되고, 두 번 누르면 돌아갑니다.",
    table: "테이블", class: "분류", timeline: "시간표", from: "부터", to: "까지", rows_below: "행", before: "이전 쪽",
    timeline_hint: "한 줄이 설비 하나입니다. 구간을 가리키거나 Tab과 화살표 키로 이동하면 내용이 표시됩니다.", more_lanes: "그린 것보다 더 많습니다. 설비 {0}대를 표시합니다. 설비나 더 짧은 기간을 선택하세요.",
    no_diagnoses: "시간에 따른 분류가 있는 테이블이 없습니다. diagnosis 같은 텍스트 또는 정수 열이 있고 keep이나 Parquet 싱크가 있는 스트림이 이 화면을 채웁니다.",
    cost_total: "합계", cost_now: "현재 행의 합계", by_machine: "설비별", by_day: "일별", dearest: "비용이 큰 설비 {0}대를 표시합니다.",
    no_cost: "이름이 _cost로 끝나는 열이 없습니다. 그런 열을 만드는 단계를 추가하면 이 화면이 채워집니다:",
    users: "사용자", invitations: "초대", tokens: "토큰", audit: "감사 기록", role: "역할", created: "만든 시각", active: "사용 중", disabled: "꺼짐", enable: "켜기", disable: "끄기",
    new_password: "비밀번호 (10자 이상)", add_user: "사용자 추가", invite: "초대 만들기", copy: "복사", copied: "복사됨",
    invitation_hint: "링크를 받은 사람이 7일 안에 한 번 계정을 만들 수 있습니다.", invitation_once: "이 링크는 지금 한 번만 표시됩니다. {0}까지 유효합니다.",
    scopes: "권한", expires: "기한", never: "무기한", revoke: "폐기", days: "일수", make_token: "토큰 만들기", token_once: "이 토큰은 지금 한 번만 표시됩니다.",
    sure_disable: "{0} 계정을 끌까요?", sure_revoke: "토큰 {0}을(를) 폐기할까요? 사용 중인 프로그램은 즉시 차단됩니다.",
    newer: "이후", older: "이전", when: "시각", who: "누가", address: "주소", what: "작업", object: "대상", outcome: "결과",
    role_viewer: "조회자", role_operator: "운영자", role_engineer: "엔지니어", role_admin: "관리자", signup: "계정 만들기", invited: "초대를 받았습니다. 이름과 비밀번호를 정하세요.",
    model: "모델", shadowed: "섀도로 처리한 행", shadow_failed: "섀도 실패", compared: "챔피언과 챌린저", figure: "지표", champion: "챔피언", challenger: "챌린저", difference: "차이",
    compared_hint: "같은 행을 비교합니다. rmse와 challenger_rmse 같은 열이 있는 뷰가 여기에 표시됩니다.",
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

/** Units as people write them; codes that are no different stand for themselves. */
const UNITS = { Cel: "°C", "[degF]": "°F", "m/s2": "m/s²", "[g]": "g", "1/min": "rpm", um: "µm", Ohm: "Ω", "%": "%" };
export const unitOf = (code) => (code ? (UNITS[code] ?? code) : null);
