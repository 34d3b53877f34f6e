<?php
// Composer's vendor/autoload.php, from the libraries that Debian installs.
foreach (['libphp-phpmailer', 'Symfony/Component/Mailer'] as $library) {
    $file = "/usr/share/php/$library/autoload.php";
    if (is_file($file)) {
        require_once $file;
    }
}
